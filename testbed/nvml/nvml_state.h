/* The state that the double reads from $NVML_DOUBLE_STATE, and how it is read.
 *
 * One statement a line, words parted by blanks, '#' starts a comment line:
 *
 *   driver TEXT                      nvmlSystemGetDriverVersion (default 570.86.15)
 *   cuda NUMBER                      nvmlSystemGetCudaDriverVersion (default 12080)
 *   init CODE                        what nvmlInitWithFlags returns
 *   return FUNCTION|* CODE           what a function, or every function, returns
 *   hang FUNCTION|* SECONDS|forever  how long a call is held; ends early when the line goes
 *   epoch NUMBER                     another driver than before: who initialised earlier gets 999
 *   race TIMES                       so many fill calls of process lists per process find the array too small
 *   print TEXT                       every nvmlInitWithFlags writes this line to stdout
 *   xid UUID CODE SEQ [GI CI]        delivered once through nvmlEventSetWait_v2; SEQ grows through the file
 *   gpu UUID                         begins a GPU; what follows is about it
 *   mig UUID GI CI                   begins a MIG device of the last GPU
 *     name TEXT   minor N   pci ID   memory TOTAL USED   utilization GPU MEMORY
 *     recovery N                     field 230; -1: this driver has no such field
 *     ecc VOLATILE AGGREGATE         uncorrected errors
 *     remapped CORRECTABLE UNCORRECTABLE PENDING FAILURE     clocks MASK
 *     retired PENDING                pages that wait for retirement; -1, the default: has rows instead
 *     events MASK                    the types that can be registered (default 8, Xids; MIG devices have none)
 *     process PID USED|none [GI CI]  mps, graphics: likewise; the instances are the device's own unless given
 *     sample PID PERCENT AGE         a process that kept the multiprocessors busy AGE seconds before the line
 *                                    is read; several lines of one pid are several samples
 *     return, hang                   as above, for calls on this device alone
 */
#ifndef NVML_STATE_H
#define NVML_STATE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nvml_layouts.h"

#define NO_DEVICE (-1)

struct device {
  char uuid[96], name[96], pci[32];
  int minor, parent, recovery;
  uint32_t gpu_instance, compute_instance;
  uint64_t total, used, ecc[2], clocks;
  uint32_t utilization[2], remapped[4];
  int retired;
  uint64_t events;
};

enum list { COMPUTE, MPS, GRAPHICS };

struct process {
  int device;
  enum list list;
  uint32_t pid, gpu_instance, compute_instance;
  uint64_t used;
};

struct sample {
  int device;
  uint32_t pid, percent;
  uint64_t taken; /* microseconds since 1970 */
};

struct rule {
  int device; /* NO_DEVICE: for every call */
  int hang;   /* otherwise a return */
  char function[64];
  double value; /* the code, or the seconds */
};

struct xid {
  char uuid[96];
  uint64_t code, sequence;
  uint32_t gpu_instance, compute_instance;
};

struct state {
  char driver[80], print[256];
  int cuda, init, epoch, race;
  struct device *devices;
  struct process *processes;
  struct sample *samples;
  struct rule *rules;
  struct xid *xids;
  int device_count, process_count, sample_count, rule_count, xid_count;
};

static void *grown(void *array, int count, size_t size) {
  if (count & (count - 1)) return array; /* room doubles at each power of two */
  void *bigger = realloc(array, (count ? 2 * (size_t)count : 1) * size);
  if (!bigger) abort();
  memset((char *)bigger + (size_t)count * size, 0, (count ? (size_t)count : 1) * size);
  return bigger;
}

static void device_begin(struct state *state, const char *uuid, int parent) {
  state->devices = grown(state->devices, state->device_count, sizeof *state->devices);
  struct device *device = &state->devices[state->device_count++];
  *device = (struct device){.parent = parent, .minor = state->device_count - 1, .retired = -1};
  device->events = parent == NO_DEVICE ? EVENT_XID : 0;
  device->gpu_instance = device->compute_instance = NO_INSTANCE;
  snprintf(device->uuid, sizeof device->uuid, "%s", uuid);
  snprintf(device->name, sizeof device->name, "NVIDIA Double");
  snprintf(device->pci, sizeof device->pci, "00000000:%02X:00.0", state->device_count);
}

static void process_add(struct state *state, enum list list, const char *rest) {
  const struct device *device = &state->devices[state->device_count - 1];
  unsigned pid = 0, gpu_instance = device->gpu_instance, compute_instance = device->compute_instance;
  char used[32] = "none";
  sscanf(rest, "%u %31s %u %u", &pid, used, &gpu_instance, &compute_instance);
  state->processes = grown(state->processes, state->process_count, sizeof *state->processes);
  state->processes[state->process_count++] = (struct process){
      .device = state->device_count - 1,
      .list = list,
      .pid = pid,
      .gpu_instance = gpu_instance,
      .compute_instance = compute_instance,
      .used = strcmp(used, "none") ? strtoull(used, NULL, 10) : NOT_AVAILABLE,
  };
}

static void sample_add(struct state *state, const char *rest) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  struct sample sample = {.device = state->device_count - 1};
  double age = 0;
  sscanf(rest, "%u %u %lf", &sample.pid, &sample.percent, &age);
  sample.taken = (uint64_t)at.tv_sec * 1000000 + (uint64_t)at.tv_nsec / 1000 - (uint64_t)(age * 1e6);
  state->samples = grown(state->samples, state->sample_count, sizeof *state->samples);
  state->samples[state->sample_count++] = sample;
}

static void rule_add(struct state *state, int hang, const char *rest) {
  char value[32] = "forever";
  state->rules = grown(state->rules, state->rule_count, sizeof *state->rules);
  struct rule *rule = &state->rules[state->rule_count++];
  *rule = (struct rule){.device = state->device_count - 1, .hang = hang};
  sscanf(rest, "%63s %31s", rule->function, value);
  rule->value = strcmp(value, "forever") ? strtod(value, NULL) : 1e9;
}

static void device_line(struct device *device, const char *word, const char *rest) {
  if (!strcmp(word, "name")) snprintf(device->name, sizeof device->name, "%s", rest);
  if (!strcmp(word, "minor")) device->minor = atoi(rest);
  if (!strcmp(word, "pci")) snprintf(device->pci, sizeof device->pci, "%s", rest);
  if (!strcmp(word, "memory")) sscanf(rest, "%lu %lu", &device->total, &device->used);
  if (!strcmp(word, "utilization"))
    sscanf(rest, "%u %u", &device->utilization[0], &device->utilization[1]);
  if (!strcmp(word, "recovery")) device->recovery = atoi(rest);
  if (!strcmp(word, "ecc")) sscanf(rest, "%lu %lu", &device->ecc[0], &device->ecc[1]);
  if (!strcmp(word, "remapped"))
    sscanf(rest, "%u %u %u %u", &device->remapped[0], &device->remapped[1], &device->remapped[2],
           &device->remapped[3]);
  if (!strcmp(word, "retired")) device->retired = atoi(rest);
  if (!strcmp(word, "events")) device->events = strtoull(rest, NULL, 0);
  if (!strcmp(word, "clocks")) device->clocks = strtoull(rest, NULL, 0);
}

static int last_gpu(const struct state *state) {
  for (int i = state->device_count - 1; i >= 0; i--)
    if (state->devices[i].parent == NO_DEVICE) return i;
  return NO_DEVICE;
}

static void state_line(struct state *state, const char *word, const char *rest) {
  if (!strcmp(word, "driver")) snprintf(state->driver, sizeof state->driver, "%s", rest);
  if (!strcmp(word, "cuda")) state->cuda = atoi(rest);
  if (!strcmp(word, "init")) state->init = atoi(rest);
  if (!strcmp(word, "epoch")) state->epoch = atoi(rest);
  if (!strcmp(word, "race")) state->race = atoi(rest);
  if (!strcmp(word, "print")) snprintf(state->print, sizeof state->print, "%s", rest);
  if (!strcmp(word, "return")) rule_add(state, 0, rest);
  if (!strcmp(word, "hang")) rule_add(state, 1, rest);
  if (!strcmp(word, "gpu")) device_begin(state, rest, NO_DEVICE);
  if (!strcmp(word, "xid")) {
    state->xids = grown(state->xids, state->xid_count, sizeof *state->xids);
    struct xid *xid = &state->xids[state->xid_count++];
    xid->gpu_instance = xid->compute_instance = NO_INSTANCE;
    sscanf(rest, "%95s %lu %lu %u %u", xid->uuid, &xid->code, &xid->sequence, &xid->gpu_instance,
           &xid->compute_instance);
  }
  if (!strcmp(word, "mig") && state->device_count) {
    char uuid[96] = "";
    unsigned gpu_instance = 0, compute_instance = 0;
    sscanf(rest, "%95s %u %u", uuid, &gpu_instance, &compute_instance);
    device_begin(state, uuid, last_gpu(state));
    state->devices[state->device_count - 1].gpu_instance = gpu_instance;
    state->devices[state->device_count - 1].compute_instance = compute_instance;
  }
  if (!state->device_count) return;
  if (!strcmp(word, "process")) process_add(state, COMPUTE, rest);
  if (!strcmp(word, "mps")) process_add(state, MPS, rest);
  if (!strcmp(word, "graphics")) process_add(state, GRAPHICS, rest);
  if (!strcmp(word, "sample")) sample_add(state, rest);
  device_line(&state->devices[state->device_count - 1], word, rest);
}

/* Replaces *state by what the file at path says; an absent file is a machine without GPUs. */
static void state_read(struct state *state, const char *path) {
  free(state->devices), free(state->processes), free(state->samples), free(state->rules);
  free(state->xids);
  *state = (struct state){.driver = "570.86.15", .cuda = 12080};
  FILE *file = path ? fopen(path, "re") : NULL;
  if (!file) return;
  char line[512], word[32];
  while (fgets(line, sizeof line, file)) {
    int length = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, " %31s %n", word, &length) == 1 && word[0] != '#')
      state_line(state, word, line + length);
  }
  fclose(file);
}

#endif
