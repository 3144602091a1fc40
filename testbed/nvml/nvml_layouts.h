/* What nvml.h fixes: codes, and structs as nvidia-ml-py declares them. */
#ifndef NVML_LAYOUTS_H
#define NVML_LAYOUTS_H

#include <stdint.h>

enum {
  SUCCESS = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  NOT_SUPPORTED = 3,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  TIMEOUT = 10,
  GPU_IS_LOST = 15,
  UNKNOWN = 999,
};

#define NOT_AVAILABLE UINT64_MAX
#define NO_INSTANCE UINT32_MAX
#define FIELD_RECOVERY_ACTION 230
#define EVENT_XID 8

struct memory {
  uint64_t total, free, used;
};
struct memory_v2 {
  uint32_t version;
  uint64_t total, reserved, free, used;
};
struct pci_info {
  char legacy[16];
  uint32_t domain, bus, device, device_id, subsystem_id;
  char bus_id[32];
};
struct process_info {
  uint32_t pid;
  uint64_t used;
  uint32_t gpu_instance, compute_instance;
};
struct process_info_535 { /* _v3 in 535.43 to 535.86 alone */
  uint32_t pid;
  uint64_t used;
  uint32_t gpu_instance, compute_instance;
  uint64_t protected_used;
};
struct process_sample {
  uint32_t pid;
  uint64_t taken;
  uint32_t sm, memory, encoder, decoder;
};
struct field_value {
  uint32_t field, scope;
  int64_t timestamp, latency;
  uint32_t type, result;
  uint64_t value;
};
struct event_data {
  void *device;
  uint64_t type, data;
  uint32_t gpu_instance, compute_instance;
};

#endif
