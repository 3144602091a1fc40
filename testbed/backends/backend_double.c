/*
 * A backend that Triton loads into its own process, by any name: onnxruntime, tensorrt, pytorch, openvino…
 *
 * It answers each request with its input (INPUT to OUTPUT) and reports statistics as real backends do.  What
 * else it does a model's `parameters` say:
 *
 *   load_ms       each instance takes this long to load
 *   memory_mib    each instance takes this much of its device through the CUDA runtime that the process has
 *   reported_mib  each instance reports this much of its device, as onnxruntime and tensorrt do with
 *                 triton-backend-memory-tracker=true (`memory_usage` in the statistics)
 *   cpu_ms        each request takes this much CPU time
 *   wait_ms       each request waits this long without using the CPU, like one who waits for a GPU
 *   gpu_ms        each request writes to the device's memory this long
 *
 * What backends of these names do of their own accord it does too: see REFUSALS and GetBackendAttribute.
 * The prototypes are those of core's tritonbackend.h and tritonserver.h, which are a stable C API.
 */
#define _GNU_SOURCE /* memmem, RTLD_DEFAULT */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct error error;
typedef struct opaque opaque; /* whatever Triton hands out and takes back */

enum kind { KIND_AUTO, KIND_CPU, KIND_GPU, KIND_MODEL };
enum { MEMORY_GPU = 2, INVALID_ARG = 3, RELEASE_ALL = 1, RESPONSE_COMPLETE_FINAL = 1 };

error *TRITONSERVER_ErrorNew(int code, const char *message);
void TRITONSERVER_ErrorDelete(error *);
error *TRITONSERVER_MessageSerializeToJson(opaque *message, const char **base, size_t *size);
error *TRITONSERVER_MessageDelete(opaque *message);
error *TRITONSERVER_BufferAttributesNew(opaque **);
error *TRITONSERVER_BufferAttributesDelete(opaque *);
error *TRITONSERVER_BufferAttributesSetMemoryType(opaque *, int type);
error *TRITONSERVER_BufferAttributesSetMemoryTypeId(opaque *, int64_t id);
error *TRITONSERVER_BufferAttributesSetByteSize(opaque *, size_t size);

error *TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(opaque *attributes, int kind, uint64_t count,
                                                               const uint64_t *devices, uint64_t device_count);
error *TRITONBACKEND_BackendName(opaque *backend, const char **name);
error *TRITONBACKEND_ModelBackend(opaque *model, opaque **backend);
error *TRITONBACKEND_ModelName(opaque *model, const char **name);
error *TRITONBACKEND_ModelConfig(opaque *model, uint32_t version, opaque **message);
error *TRITONBACKEND_ModelInstanceModel(opaque *instance, opaque **model);
error *TRITONBACKEND_ModelInstanceKind(opaque *instance, int *kind);
error *TRITONBACKEND_ModelInstanceDeviceId(opaque *instance, int32_t *device);
error *TRITONBACKEND_ModelInstanceState(opaque *instance, void **state);
error *TRITONBACKEND_ModelInstanceSetState(opaque *instance, void *state);
error *TRITONBACKEND_ModelInstanceReportMemoryUsage(opaque *instance, opaque **usage, uint32_t count);
error *TRITONBACKEND_ModelInstanceReportStatistics(opaque *instance, opaque *request, bool success, uint64_t began,
                                                   uint64_t compute_began, uint64_t compute_ended, uint64_t ended);
error *TRITONBACKEND_ModelInstanceReportBatchStatistics(opaque *instance, uint64_t size, uint64_t began,
                                                        uint64_t compute_began, uint64_t compute_ended,
                                                        uint64_t ended);
error *TRITONBACKEND_RequestInputByIndex(opaque *request, uint32_t index, opaque **input);
error *TRITONBACKEND_RequestRelease(opaque *request, uint32_t flags);
error *TRITONBACKEND_InputProperties(opaque *input, const char **name, int *type, const int64_t **shape,
                                     uint32_t *dims, uint64_t *size, uint32_t *buffers);
error *TRITONBACKEND_InputBuffer(opaque *input, uint32_t index, const void **buffer, uint64_t *size, int *memory,
                                 int64_t *memory_id);
error *TRITONBACKEND_ResponseNew(opaque **response, opaque *request);
error *TRITONBACKEND_ResponseOutput(opaque *response, opaque **output, const char *name, int type,
                                    const int64_t *shape, uint32_t dims);
error *TRITONBACKEND_OutputBuffer(opaque *output, void **buffer, uint64_t size, int *memory, int64_t *memory_id);
error *TRITONBACKEND_ResponseSend(opaque *response, uint32_t flags, error *failure);

#define TRY(call)                       \
  do {                                  \
    error *failed_ = (call);            \
    if (failed_) return failed_;        \
  } while (0)

struct instance {
  int device; /* its CUDA ordinal, -1 where it has none */
  void *memory;
  size_t memory_bytes;
  double load_seconds, cpu_seconds, wait_seconds, gpu_seconds;
};

/* ---- time and devices ----------------------------------------------------------------------------- */

static uint64_t nanoseconds(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at); /* the clock that Triton stamps a request's arrival with */
  return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static double seconds_of(clockid_t clock) {
  struct timespec at;
  clock_gettime(clock, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static double monotonic(void) { return seconds_of(CLOCK_MONOTONIC); }

/* By the thread's own clock: on a busy machine much of the time is not ours. */
static void compute(double seconds) {
  double until = seconds_of(CLOCK_THREAD_CPUTIME_ID) + seconds;
  while (seconds_of(CLOCK_THREAD_CPUTIME_ID) < until) {
  }
}

static void wait_for(double seconds) {
  struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  while (nanosleep(&left, &left)) {
  }
}

/* The CUDA runtime is tritonserver's own (or the double's, preloaded): nothing is linked here. */
static int cuda_set_device(int device) {
  int (*call)(int) = (int (*)(int))dlsym(RTLD_DEFAULT, "cudaSetDevice");
  return call ? call(device) : -1;
}

static int cuda_allocate(void **memory, size_t size) {
  int (*call)(void **, size_t) = (int (*)(void **, size_t))dlsym(RTLD_DEFAULT, "cudaMalloc");
  return call ? call(memory, size) : -1;
}

static int cuda_fill(void *memory, int value, size_t size) {
  int (*fill)(void *, int, size_t) = (int (*)(void *, int, size_t))dlsym(RTLD_DEFAULT, "cudaMemset");
  int (*finish)(void *) = (int (*)(void *))dlsym(RTLD_DEFAULT, "cudaStreamSynchronize");
  int failed = fill ? fill(memory, value, size) : -1;
  return failed || !finish ? failed : finish(NULL);
}

static void cuda_release(void *memory) {
  int (*call)(void *) = (int (*)(void *))dlsym(RTLD_DEFAULT, "cudaFree");
  if (call && memory) call(memory);
}

/* ---- what a model's configuration says ------------------------------------------------------------ */

/* The number that a parameter holds, 0 where it is not there.  Triton's JSON has no blanks in it. */
static double parameter(const char *json, size_t size, const char *name) {
  char wanted[96];
  int length = snprintf(wanted, sizeof wanted, "\"%s\":{\"string_value\":\"", name);
  const char *found = memmem(json, size, wanted, (size_t)length);
  return found ? strtod(found + length, NULL) : 0;
}

static error *model_parameters(opaque *model, struct instance *to, double *memory_mib, double *reported_mib) {
  opaque *message;
  const char *json;
  size_t size;
  TRY(TRITONBACKEND_ModelConfig(model, 1, &message));
  error *failed = TRITONSERVER_MessageSerializeToJson(message, &json, &size);
  if (!failed) {
    *memory_mib = parameter(json, size, "memory_mib");
    *reported_mib = parameter(json, size, "reported_mib");
    to->load_seconds = parameter(json, size, "load_ms") / 1e3;
    to->cpu_seconds = parameter(json, size, "cpu_ms") / 1e3;
    to->wait_seconds = parameter(json, size, "wait_ms") / 1e3;
    to->gpu_seconds = parameter(json, size, "gpu_ms") / 1e3;
  }
  TRITONSERVER_MessageDelete(message);
  return failed;
}

/* ---- what backends of these names do -------------------------------------------------------------- */

static const struct {
  const char *backend;
  int allowed; /* a mask of kinds */
  const char *words;
} REFUSALS[] = {
    /* openvino_backend, openvino.cc; tensorrt_backend, instance_state.cc */
    {"openvino", 1 << KIND_CPU, "unable to load model '%s', Triton OpenVINO backend supports only Kind CPU and AUTO"},
    {"tensorrt", 1 << KIND_GPU, "unable to load model '%s', TensorRT backend supports only GPU device"},
};

static error *refusal(const char *backend, const char *model, int kind) {
  for (size_t i = 0; i < sizeof REFUSALS / sizeof *REFUSALS; i++) {
    if (strcmp(REFUSALS[i].backend, backend) || REFUSALS[i].allowed & 1 << kind) continue;
    char words[512];
    snprintf(words, sizeof words, REFUSALS[i].words, model);
    return TRITONSERVER_ErrorNew(INVALID_ARG, words);
  }
  return NULL;
}

EXPORT error *TRITONBACKEND_GetBackendAttribute(opaque *backend, opaque *attributes) {
  const char *name;
  TRY(TRITONBACKEND_BackendName(backend, &name));
  if (!strcmp(name, "openvino")) /* openvino.cc: its models are placed on the CPU where nothing is written */
    TRY(TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(attributes, KIND_CPU, 0, NULL, 0));
  return NULL;
}

/* ---- instances ------------------------------------------------------------------------------------ */

static error *report(opaque *instance, int device, size_t bytes) {
  opaque *usage;
  TRY(TRITONSERVER_BufferAttributesNew(&usage));
  error *failed = TRITONSERVER_BufferAttributesSetMemoryType(usage, MEMORY_GPU);
  if (!failed) failed = TRITONSERVER_BufferAttributesSetMemoryTypeId(usage, device);
  if (!failed) failed = TRITONSERVER_BufferAttributesSetByteSize(usage, bytes);
  if (!failed) failed = TRITONBACKEND_ModelInstanceReportMemoryUsage(instance, &usage, 1);
  TRITONSERVER_BufferAttributesDelete(usage);
  return failed;
}

static error *take(struct instance *made, size_t bytes) {
  int failed = cuda_set_device(made->device);
  if (!failed) failed = cuda_allocate(&made->memory, bytes);
  if (!failed) failed = cuda_fill(made->memory, 1, bytes);
  made->memory_bytes = bytes;
  if (!failed) return NULL;
  char words[128];
  snprintf(words, sizeof words, "CUDA failure %d at %zu bytes of device %d", failed, bytes, made->device);
  return TRITONSERVER_ErrorNew(INVALID_ARG, words);
}

EXPORT error *TRITONBACKEND_ModelInstanceInitialize(opaque *instance) {
  opaque *model, *backend;
  const char *backend_name, *model_name;
  int kind;
  int32_t device;
  TRY(TRITONBACKEND_ModelInstanceModel(instance, &model));
  TRY(TRITONBACKEND_ModelBackend(model, &backend));
  TRY(TRITONBACKEND_BackendName(backend, &backend_name));
  TRY(TRITONBACKEND_ModelName(model, &model_name));
  TRY(TRITONBACKEND_ModelInstanceKind(instance, &kind));
  TRY(TRITONBACKEND_ModelInstanceDeviceId(instance, &device));
  TRY(refusal(backend_name, model_name, kind));

  struct instance *made = calloc(1, sizeof *made);
  if (!made) abort();
  double memory_mib = 0, reported_mib = 0;
  made->device = kind == KIND_CPU ? -1 : device;
  error *failed = model_parameters(model, made, &memory_mib, &reported_mib);
  if (!failed && made->load_seconds > 0) wait_for(made->load_seconds);
  if (!failed && made->device >= 0 && memory_mib > 0) failed = take(made, (size_t)memory_mib << 20);
  if (!failed && made->device >= 0 && reported_mib > 0)
    failed = report(instance, made->device, (size_t)reported_mib << 20);
  if (!failed) failed = TRITONBACKEND_ModelInstanceSetState(instance, made);
  if (failed) {
    cuda_release(made->memory);
    free(made);
  }
  return failed;
}

EXPORT error *TRITONBACKEND_ModelInstanceFinalize(opaque *instance) {
  void *state;
  TRY(TRITONBACKEND_ModelInstanceState(instance, &state));
  struct instance *ended = state;
  if (ended) cuda_release(ended->memory);
  free(ended);
  return NULL;
}

/* ---- requests ------------------------------------------------------------------------------------- */

static void work(const struct instance *here) {
  if (here->cpu_seconds > 0) compute(here->cpu_seconds);
  if (here->wait_seconds > 0) wait_for(here->wait_seconds);
  if (here->gpu_seconds > 0 && here->memory && !cuda_set_device(here->device)) {
    double until = monotonic() + here->gpu_seconds;
    while (monotonic() < until && !cuda_fill(here->memory, 2, here->memory_bytes)) {
    }
  }
}

static error *echo(opaque *request, opaque *response) {
  opaque *input, *output;
  const char *name;
  const int64_t *shape;
  uint32_t dims, buffers;
  uint64_t size, part;
  int type, memory = 0;
  int64_t memory_id = 0;
  TRY(TRITONBACKEND_RequestInputByIndex(request, 0, &input));
  TRY(TRITONBACKEND_InputProperties(input, &name, &type, &shape, &dims, &size, &buffers));
  TRY(TRITONBACKEND_ResponseOutput(response, &output, "OUTPUT", type, shape, dims));
  void *to;
  TRY(TRITONBACKEND_OutputBuffer(output, &to, size, &memory, &memory_id));
  char *at = to;
  for (uint32_t i = 0; i < buffers; i++, at += part) {
    const void *from;
    TRY(TRITONBACKEND_InputBuffer(input, i, &from, &part, &memory, &memory_id));
    memcpy(at, from, part);
  }
  return NULL;
}

EXPORT error *TRITONBACKEND_ModelInstanceExecute(opaque *instance, opaque **requests, uint32_t count) {
  void *state;
  TRY(TRITONBACKEND_ModelInstanceState(instance, &state));
  uint64_t began = nanoseconds();
  for (uint32_t i = 0; i < count; i++) {
    opaque *response;
    uint64_t compute_began = nanoseconds();
    work(state);
    uint64_t compute_ended = nanoseconds();
    TRY(TRITONBACKEND_ResponseNew(&response, requests[i]));
    error *failed = echo(requests[i], response);
    bool success = !failed;
    error *unsent = TRITONBACKEND_ResponseSend(response, RESPONSE_COMPLETE_FINAL, failed);
    if (unsent) TRITONSERVER_ErrorDelete(unsent);
    TRY(TRITONBACKEND_ModelInstanceReportStatistics(instance, requests[i], success, compute_began, compute_began,
                                                    compute_ended, nanoseconds()));
    TRY(TRITONBACKEND_RequestRelease(requests[i], RELEASE_ALL));
  }
  uint64_t ended = nanoseconds();
  return TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, count, began, began, ended, ended);
}
