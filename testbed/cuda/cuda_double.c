/*
 * The CUDA runtime as far as Triton's core, its python backend and its stubs call it, on host memory.
 *
 * Preloaded into tritonserver, so that these symbols win over those of libcudart.so.12.  How many devices
 * there are comes from the file named by CUDA_DOUBLE_STATE ("<devices> [<error>]", read at every call), or
 * from CUDA_DOUBLE_DEVICES and CUDA_DOUBLE_ERROR.  With no device every call that needs one fails as the
 * real runtime does on a machine without a GPU.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int cudaError_t;
typedef void *cudaStream_t;
typedef void *cudaEvent_t;
typedef void (*cudaHostFn_t)(void *);
typedef struct { unsigned x, y, z; } dim3;
typedef struct { char reserved[64]; } cudaIpcMemHandle_t;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    MEMORY_ALLOCATION = 2,
    INSUFFICIENT_DRIVER = 35,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    NOT_SUPPORTED = 801,
};

#define MEMORY_OF_A_DEVICE ((size_t)80 << 30)

/* struct cudaDeviceProp of CUDA 12.x, as far as anyone here reads it; the real one is longer. */
struct properties {
    char name[256];
    char uuid[16];
    char luid[8];
    unsigned luid_device_node_mask;
    size_t total_global_mem;
    size_t shared_mem_per_block;
    int regs_per_block;
    int warp_size;
    size_t mem_pitch;
    int max_threads_per_block;
    int max_threads_dim[3];
    int max_grid_size[3];
    int clock_rate;
    size_t total_const_mem;
    int major;
    int minor;
};
_Static_assert(offsetof(struct properties, major) == 360, "the layout of CUDA 12.x");

static __thread int current_device;
static __thread cudaError_t last_error;

static cudaError_t answer(cudaError_t error)
{
    if (error != SUCCESS)
        last_error = error;
    return error;
}

static cudaError_t devices(int *count)
{
    const char *state = getenv("CUDA_DOUBLE_STATE");
    const char *wanted = getenv("CUDA_DOUBLE_DEVICES");
    const char *failing = getenv("CUDA_DOUBLE_ERROR");
    int error = failing ? atoi(failing) : SUCCESS;

    *count = wanted ? atoi(wanted) : 0;
    if (state) {
        FILE *file = fopen(state, "re");
        *count = 0;
        error = SUCCESS;
        if (file) {
            if (fscanf(file, "%d %d", count, &error) < 1)
                *count = 0;
            fclose(file);
        }
    }
    if (error != SUCCESS)
        return error;
    return *count > 0 ? SUCCESS : NO_DEVICE;
}

static cudaError_t device_exists(int device)
{
    int count;
    cudaError_t error = devices(&count);

    if (error != SUCCESS)
        return error;
    return device >= 0 && device < count ? SUCCESS : INVALID_DEVICE;
}

static cudaError_t allocate(void **memory, size_t size)
{
    cudaError_t error = device_exists(current_device);

    if (error != SUCCESS)
        return answer(error);
    /* Untouched pages cost nothing, so Triton's 64 MiB pool for each device is free of charge. */
    *memory = malloc(size ? size : 1);
    return answer(*memory ? SUCCESS : MEMORY_ALLOCATION);
}

static cudaError_t copy(void *to, const void *from, size_t size)
{
    memmove(to, from, size);
    return SUCCESS;
}

static cudaError_t make_stream(cudaStream_t *stream)
{
    void *memory;
    cudaError_t error = allocate(&memory, 1);

    if (error == SUCCESS)
        *stream = memory;
    return error;
}

/* --- devices --- */

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t error = devices(count);

    if (error != SUCCESS)
        *count = 0;
    return answer(error);
}

cudaError_t cudaGetDevice(int *device)
{
    cudaError_t error = device_exists(current_device);

    *device = current_device;
    return answer(error);
}

cudaError_t cudaSetDevice(int device)
{
    cudaError_t error = device_exists(device);

    if (error == SUCCESS)
        current_device = device;
    return answer(error);
}

cudaError_t cudaGetDeviceProperties_v2(struct properties *properties, int device)
{
    cudaError_t error = device_exists(device);

    if (error != SUCCESS)
        return answer(error);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "Pretended GPU %d", device);
    properties->uuid[15] = (char)(device + 1);
    properties->total_global_mem = MEMORY_OF_A_DEVICE;
    properties->warp_size = 32;
    properties->max_threads_per_block = 1024;
    properties->major = 8;
    return SUCCESS;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    cudaError_t error = device_exists(device);

    if (error != SUCCESS)
        return answer(error);
    snprintf(id, (size_t)length, "00000000:%02X:00.0", (unsigned)(device + 1) & 0xff);
    return SUCCESS;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    *can = 0;
    return answer(device_exists(device) != SUCCESS ? device_exists(device) : device_exists(peer));
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    (void)flags;
    return answer(device_exists(peer));
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = *greatest = 0;
    return answer(device_exists(current_device));
}

cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, uint64_t flags, int *found)
{
    (void)symbol;
    (void)flags;
    *function = NULL;
    if (found)
        *found = 1; /* cudaDriverEntryPointSymbolNotFound */
    return answer(NOT_SUPPORTED);
}

/* --- memory --- */

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *free_bytes = *total_bytes = MEMORY_OF_A_DEVICE;
    return answer(device_exists(current_device));
}

cudaError_t cudaMalloc(void **memory, size_t size)
{
    return allocate(memory, size);
}

cudaError_t cudaMallocManaged(void **memory, size_t size, unsigned flags)
{
    (void)flags;
    return allocate(memory, size);
}

cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned flags)
{
    (void)flags;
    return allocate(memory, size);
}

cudaError_t cudaFree(void *memory)
{
    free(memory);
    return SUCCESS;
}

cudaError_t cudaFreeHost(void *memory)
{
    free(memory);
    return SUCCESS;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, int kind)
{
    (void)kind;
    return copy(to, from, size);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, cudaStream_t stream)
{
    (void)kind;
    (void)stream;
    return copy(to, from, size);
}

cudaError_t cudaMemcpyPeer(void *to, int device, const void *from, int peer, size_t size)
{
    (void)device;
    (void)peer;
    return copy(to, from, size);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int device, const void *from, int peer, size_t size, cudaStream_t stream)
{
    (void)device;
    (void)peer;
    (void)stream;
    return copy(to, from, size);
}

cudaError_t cudaMemset(void *memory, int value, size_t size)
{
    memset(memory, value, size);
    return SUCCESS;
}

cudaError_t cudaMemPrefetchAsync(const void *memory, size_t size, int device, cudaStream_t stream)
{
    (void)memory;
    (void)size;
    (void)stream;
    return answer(device_exists(device));
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory)
{
    (void)handle;
    (void)memory;
    return answer(NOT_SUPPORTED); /* host memory of one process can not be opened by another */
}

cudaError_t cudaIpcOpenMemHandle(void **memory, cudaIpcMemHandle_t handle, unsigned flags)
{
    (void)memory;
    (void)handle;
    (void)flags;
    return answer(NOT_SUPPORTED);
}

cudaError_t cudaIpcCloseMemHandle(void *memory)
{
    (void)memory;
    return answer(NOT_SUPPORTED);
}

/* --- streams, events, work --- */

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return make_stream(stream);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)flags;
    (void)priority;
    return make_stream(stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    free(stream);
    return SUCCESS;
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned *flags)
{
    (void)stream;
    *flags = 0;
    return SUCCESS;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return SUCCESS;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)event;
    (void)stream;
    return SUCCESS;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return SUCCESS;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    (void)stream;
    function(data); /* everything before it in the stream is done already */
    return SUCCESS;
}

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream)
{
    (void)kernel;
    (void)grid;
    (void)block;
    (void)arguments;
    (void)shared;
    (void)stream;
    return answer(NOT_SUPPORTED);
}

/* --- errors --- */

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;

    last_error = SUCCESS;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case SUCCESS:
        return "no error";
    case INVALID_VALUE:
        return "invalid argument";
    case MEMORY_ALLOCATION:
        return "out of memory";
    case INSUFFICIENT_DRIVER:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case NO_DEVICE:
        return "no CUDA-capable device is detected";
    case INVALID_DEVICE:
        return "invalid device ordinal";
    case NOT_SUPPORTED:
        return "operation not supported";
    default:
        return "unknown error";
    }
}
