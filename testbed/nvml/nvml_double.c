/* A libnvidia-ml.so.1 for machines without a GPU: the real nvidia-ml-py loads it and is told what the file
 * named by $NVML_DOUBLE_STATE says at that moment (grammar in nvml_state.h).  Handles stand for a uuid, so
 * that a handle taken before the file changed means the same GPU afterwards, or a lost one.
 */
#include "nvml_state.h"

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 256
#define EXPORT __attribute__((visibility("default")))

struct slot {
  char uuid[96];
};

struct event_set {
  int registered[SLOTS];
  uint64_t seen[SLOTS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct state now;
static struct stat read_from;
static struct slot slots[SLOTS];
static int slot_count, initialised, epoch, races;

/* Parsed again only when it is another file than the last time: writers rename a new one into place. */
static void refresh(void) {
  const char *path = getenv("NVML_DOUBLE_STATE");
  struct stat found;
  memset(&found, 0, sizeof found);
  if (path && stat(path, &found)) memset(&found, 0, sizeof found);
  int same = found.st_ino == read_from.st_ino && found.st_size == read_from.st_size &&
             found.st_mtim.tv_sec == read_from.st_mtim.tv_sec &&
             found.st_mtim.tv_nsec == read_from.st_mtim.tv_nsec;
  if (same && now.driver[0]) return;
  state_read(&now, path);
  read_from = found;
}

/* ---- what every call passes through --------------------------------------------------------------- */

static const struct rule *rule_for(int device, int hang, const char *function) {
  const struct rule *general = NULL;
  for (int i = 0; i < now.rule_count; i++) {
    const struct rule *rule = &now.rules[i];
    if (rule->hang != hang || (rule->device != NO_DEVICE && rule->device != device)) continue;
    if (!strcmp(rule->function, function)) return rule;
    if (!strcmp(rule->function, "*")) general = rule;
  }
  return general;
}

static int device_of(const void *handle) {
  const struct slot *slot = handle;
  for (int i = 0; slot && i < now.device_count; i++)
    if (!strcmp(now.devices[i].uuid, slot->uuid)) return i;
  return NO_DEVICE;
}

static void *handle_of(const char *uuid) {
  for (int i = 0; i < slot_count; i++)
    if (!strcmp(slots[i].uuid, uuid)) return &slots[i];
  if (slot_count == SLOTS) abort();
  snprintf(slots[slot_count].uuid, sizeof slots[slot_count].uuid, "%s", uuid);
  return &slots[slot_count++];
}

static double monotonic(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Leaves with the lock held, also where the answer is an error. */
static int enter(const char *function, const void *handle) {
  double began = monotonic();
  pthread_mutex_lock(&lock);
  refresh();
  const struct rule *rule;
  while ((rule = rule_for(device_of(handle), 1, function)) && monotonic() - began < rule->value) {
    pthread_mutex_unlock(&lock);
    usleep(10000);
    pthread_mutex_lock(&lock);
    refresh();
  }
  rule = rule_for(device_of(handle), 0, function);
  return rule ? (int)rule->value : SUCCESS;
}

static int leave(int code) {
  pthread_mutex_unlock(&lock);
  return code;
}

static int is_handle(const void *handle) {
  const struct slot *slot = handle;
  return slot >= slots && slot < slots + slot_count;
}

#define BEGIN(handle)                                        \
  do {                                                       \
    int code_ = enter(__func__, (handle));                   \
    if (code_) return leave(code_);                          \
    if (!initialised) return leave(UNINITIALIZED);           \
    if (epoch != now.epoch) return leave(UNKNOWN);           \
  } while (0)

/* As BEGIN, and `device` is the handle's device. */
#define BEGIN_DEVICE(handle)                                       \
  if (!is_handle(handle)) return INVALID_ARGUMENT;                 \
  BEGIN(handle);                                                   \
  if (device_of(handle) == NO_DEVICE) return leave(GPU_IS_LOST);   \
  struct device *device = &now.devices[device_of(handle)];         \
  (void)device

/* ---- the library ---------------------------------------------------------------------------------- */

EXPORT int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  int code = enter(__func__, NULL);
  if (now.print[0]) printf("%s\n", now.print), fflush(stdout);
  if (!code) code = now.init;
  if (!code && !initialised++) epoch = now.epoch;
  return leave(code);
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void) {
  pthread_mutex_lock(&lock);
  int code = initialised ? SUCCESS : UNINITIALIZED;
  if (initialised) initialised--;
  return leave(code);
}

EXPORT const char *nvmlErrorString(int code) {
  static char text[64];
  snprintf(text, sizeof text, "Double's error %d", code);
  return text;
}

static int text_out(char *to, unsigned length, const char *text) {
  if (strlen(text) >= length) return INSUFFICIENT_SIZE;
  strcpy(to, text);
  return SUCCESS;
}

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  BEGIN(NULL);
  return leave(text_out(version, length, now.driver));
}

EXPORT int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
  int code = enter(__func__, NULL); /* works before nvmlInit, like the real one */
  char text[96];
  snprintf(text, sizeof text, "12.%s", now.driver);
  return leave(code ? code : text_out(version, length, text));
}

EXPORT int nvmlSystemGetCudaDriverVersion(int *version) {
  int code = enter(__func__, NULL);
  *version = now.cuda;
  return leave(code);
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  return nvmlSystemGetCudaDriverVersion(version);
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
  BEGIN(NULL);
  *count = 0;
  for (int i = 0; i < now.device_count; i++) *count += now.devices[i].parent == NO_DEVICE;
  return leave(SUCCESS);
}

/* The index-th device under parent (NO_DEVICE: the index-th GPU). */
static int child(int parent, unsigned index) {
  for (int i = 0; i < now.device_count; i++)
    if (now.devices[i].parent == parent && index-- == 0) return i;
  return NO_DEVICE;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
  BEGIN(NULL);
  int found = child(NO_DEVICE, index);
  if (found == NO_DEVICE) return leave(INVALID_ARGUMENT);
  const struct rule *rule = rule_for(found, 0, __func__);
  if (rule) return leave((int)rule->value);
  *handle = handle_of(now.devices[found].uuid);
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
  BEGIN(NULL);
  for (int i = 0; i < now.device_count; i++) {
    const struct rule *rule = rule_for(i, 0, __func__);
    if (rule) return leave((int)rule->value); /* any lost GPU fails the search, like the real one */
    if (strcmp(now.devices[i].uuid, uuid)) continue;
    *handle = handle_of(uuid);
    return leave(SUCCESS);
  }
  return leave(NOT_FOUND);
}

EXPORT int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
  BEGIN_DEVICE(handle);
  return leave(text_out(uuid, length, device->uuid));
}

EXPORT int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
  BEGIN_DEVICE(handle);
  return leave(text_out(name, length, device->name));
}

EXPORT int nvmlDeviceGetIndex(void *handle, unsigned *index) {
  BEGIN_DEVICE(handle);
  *index = 0;
  for (int i = 0; &now.devices[i] != device; i++) *index += now.devices[i].parent == device->parent;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetMinorNumber(void *handle, unsigned *minor) {
  BEGIN_DEVICE(handle);
  if (device->parent != NO_DEVICE || device->minor < 0) return leave(NOT_SUPPORTED);
  *minor = (unsigned)device->minor;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetPciInfo_v3(void *handle, struct pci_info *info) {
  BEGIN_DEVICE(handle);
  memset(info, 0, sizeof *info);
  sscanf(device->pci, "%x:%x:%x", &info->domain, &info->bus, &info->device);
  snprintf(info->bus_id, sizeof info->bus_id, "%s", device->pci);
  snprintf(info->legacy, sizeof info->legacy, "%04x:%02x:%02x.0", info->domain & 0xFFFF, info->bus & 0xFF,
           info->device & 0xFF);
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
  BEGIN_DEVICE(handle);
  *memory = (struct memory){device->total, device->total - device->used, device->used};
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory_v2 *memory) {
  BEGIN_DEVICE(handle);
  if (memory->version != (2u << 24 | sizeof *memory)) return leave(INVALID_ARGUMENT);
  memory->total = device->total, memory->used = device->used;
  memory->free = device->total - device->used, memory->reserved = 0;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetUtilizationRates(void *handle, uint32_t *rates) {
  BEGIN_DEVICE(handle);
  if (device->parent != NO_DEVICE) return leave(NOT_SUPPORTED);
  memcpy(rates, device->utilization, sizeof device->utilization);
  return leave(SUCCESS);
}

static int processes_out(const struct device *device, enum list list, unsigned *count,
                         struct process_info *infos) {
  unsigned found = 0, room = *count;
  int owner = (int)(device - now.devices);
  for (int i = 0; i < now.process_count; i++) {
    const struct process *process = &now.processes[i];
    if (process->device != owner || process->list != list) continue;
    if (infos && found < room)
      infos[found] = (struct process_info){process->pid, process->used, device->gpu_instance,
                                           device->compute_instance};
    found++;
  }
  if (infos && races < now.race) {
    races++;
    found = room + 1;
  }
  *count = found;
  return found > (infos ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

#define PROCESS_LIST(name, list)                                                        \
  EXPORT int name(void *handle, unsigned *count, struct process_info *infos) {          \
    BEGIN_DEVICE(handle);                                                               \
    return leave(processes_out(device, list, count, infos));                            \
  }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS)

EXPORT int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
  BEGIN_DEVICE(handle);
  if (device->parent != NO_DEVICE) return leave(NOT_SUPPORTED);
  *current = *pending = child((int)(device - now.devices), 0) != NO_DEVICE;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
  BEGIN_DEVICE(handle);
  *count = 7;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
  BEGIN_DEVICE(handle);
  int found = child((int)(device - now.devices), index);
  if (found == NO_DEVICE) return leave(NOT_FOUND);
  *mig = handle_of(now.devices[found].uuid);
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceIsMigDeviceHandle(void *handle, unsigned *is_mig) {
  BEGIN_DEVICE(handle);
  *is_mig = device->parent != NO_DEVICE;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *handle, void **parent) {
  BEGIN_DEVICE(handle);
  if (device->parent == NO_DEVICE) return leave(INVALID_ARGUMENT);
  *parent = handle_of(now.devices[device->parent].uuid);
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
  BEGIN_DEVICE(handle);
  *id = device->gpu_instance;
  return leave(device->parent == NO_DEVICE ? NOT_SUPPORTED : SUCCESS);
}

EXPORT int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) {
  BEGIN_DEVICE(handle);
  *id = device->compute_instance;
  return leave(device->parent == NO_DEVICE ? NOT_SUPPORTED : SUCCESS);
}

EXPORT int nvmlDeviceGetFieldValues(void *handle, int count, struct field_value *values) {
  BEGIN_DEVICE(handle);
  for (int i = 0; i < count; i++) {
    int known = values[i].field == FIELD_RECOVERY_ACTION && device->recovery >= 0;
    values[i].type = 1; /* unsigned int */
    values[i].result = known ? SUCCESS : NOT_SUPPORTED;
    values[i].value = known ? (uint64_t)device->recovery : 0;
  }
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, uint64_t *count) {
  BEGIN_DEVICE(handle);
  *count = kind == 1 ? device->ecc[counter == 1] : 0;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetRemappedRows(void *handle, uint32_t *correctable, uint32_t *uncorrectable,
                                     uint32_t *pending, uint32_t *failure) {
  BEGIN_DEVICE(handle);
  *correctable = device->remapped[0], *uncorrectable = device->remapped[1];
  *pending = device->remapped[2], *failure = device->remapped[3];
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetCurrentClocksEventReasons(void *handle, uint64_t *reasons) {
  BEGIN_DEVICE(handle);
  *reasons = device->clocks;
  return leave(SUCCESS);
}

/* ---- events --------------------------------------------------------------------------------------- */

EXPORT int nvmlEventSetCreate(struct event_set **set) {
  BEGIN(NULL);
  *set = calloc(1, sizeof **set);
  return leave(*set ? SUCCESS : 20);
}

EXPORT int nvmlEventSetFree(struct event_set *set) {
  free(set);
  return SUCCESS;
}

EXPORT int nvmlDeviceGetSupportedEventTypes(void *handle, uint64_t *types) {
  BEGIN_DEVICE(handle);
  *types = device->parent == NO_DEVICE ? EVENT_XID : 0;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceRegisterEvents(void *handle, uint64_t types, struct event_set *set) {
  BEGIN_DEVICE(handle);
  if (types & ~(uint64_t)EVENT_XID) return leave(NOT_SUPPORTED);
  long slot = (struct slot *)handle - slots;
  set->registered[slot] = 1;
  for (int i = 0; i < now.xid_count; i++) /* what was before is never delivered */
    if (!strcmp(now.xids[i].uuid, device->uuid)) set->seen[slot] = now.xids[i].sequence;
  return leave(SUCCESS);
}

static int event_take(struct event_set *set, struct event_data *data) {
  for (int i = 0; i < now.xid_count; i++) {
    const struct xid *xid = &now.xids[i];
    for (int slot = 0; slot < slot_count; slot++) {
      if (!set->registered[slot] || strcmp(slots[slot].uuid, xid->uuid)) continue;
      if (xid->sequence <= set->seen[slot]) continue;
      set->seen[slot] = xid->sequence;
      *data = (struct event_data){&slots[slot], EVENT_XID, xid->code, NO_INSTANCE, NO_INSTANCE};
      return 1;
    }
  }
  return 0;
}

EXPORT int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned milliseconds) {
  double until = monotonic() + milliseconds / 1e3;
  for (;;) {
    BEGIN(NULL);
    if (event_take(set, data)) return leave(SUCCESS);
    leave(SUCCESS);
    if (monotonic() >= until) return TIMEOUT;
    usleep(10000);
  }
}
