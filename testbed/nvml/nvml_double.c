/* A libnvidia-ml.so.1 for machines without a GPU: the real nvidia-ml-py loads it and is told what the file
 * named by $NVML_DOUBLE_STATE says at that moment (grammar in nvml_state.h).  Handles stand for a uuid, so
 * that a handle taken before the file changed means the same GPU afterwards, or a lost one.
 *
 * -DRELEASE=N builds the library of an older driver, in which the functions added since are absent:
 *   440  no second version of the process lists, no MPS list, no MIG, no remapped rows, no waiting for events
 *   470  no third version of the process lists, clock reasons by their old name alone
 *   535  as its first builds were: the third version of the lists has entries of 32 bytes
 */
#ifndef RELEASE
#define RELEASE 570
#endif
#include "nvml_state.h"

#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 256
#define EXPORT __attribute__((visibility("default")))

struct slot {
  char uuid[96];
};

struct event_set {
  int session, waiting, news; /* news: readable once the state's folder changed */
  int registered[SLOTS];
  uint64_t seen[SLOTS];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct state now;
static struct stat read_from;
static struct slot slots[SLOTS];
static int slot_count, initialised, epoch, session, waiting;

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

/* For tests of the double itself: how many threads wait for events now. */
EXPORT int nvmlDoubleWaiting(void) {
  pthread_mutex_lock(&lock);
  return leave(waiting);
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void) {
  pthread_mutex_lock(&lock);
  int code = initialised ? SUCCESS : UNINITIALIZED;
  if (waiting) abort(); /* the real one frees what the waiting thread still reads */
  if (initialised && !--initialised) session++;
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

#if RELEASE >= 470
static void process_out(const struct process *process, int wide, unsigned at, void *infos) {
  struct process_info_535 info = {process->pid, process->used, process->gpu_instance,
                                  process->compute_instance, 0};
  if (wide)
    ((struct process_info_535 *)infos)[at] = info;
  else
    memcpy((struct process_info *)infos + at, &info, sizeof(struct process_info));
}

static int races;

static int processes_out(const struct device *device, enum list list, int wide, unsigned *count,
                         void *infos) {
  unsigned found = 0, room = *count;
  int owner = (int)(device - now.devices);
  for (int i = 0; i < now.process_count; i++) {
    const struct process *process = &now.processes[i];
    if (process->device != owner || process->list != list) continue;
    /* An array of the narrow layout has no room for as many wide entries: where the real one writes past
     * its end, this one stops. */
    unsigned fits = wide ? room * sizeof(struct process_info) / sizeof(struct process_info_535) : room;
    if (infos && found < fits) process_out(process, wide, found, infos);
    found++;
  }
  if (infos && races < now.race) {
    races++;
    found = room + 1;
  }
  *count = found;
  return found > (infos ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

#define PROCESS_LIST(name, list, wide)                                                  \
  EXPORT int name(void *handle, unsigned *count, void *infos) {                         \
    BEGIN_DEVICE(handle);                                                               \
    return leave(processes_out(device, list, wide, count, infos));                      \
  }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE, 0)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS, 0)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS, 0)
#endif
#if RELEASE >= 510
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE, RELEASE == 535)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS, RELEASE == 535)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS, RELEASE == 535)
#endif

/* By these two a reader tells the lists of 535's first builds: they have the first and lack the second. */
#if RELEASE >= 535
EXPORT int nvmlDeviceGetConfComputeMemSizeInfo(void *handle, void *info) {
  (void)info;
  BEGIN_DEVICE(handle);
  return leave(NOT_SUPPORTED);
}
#endif
#if RELEASE > 535
EXPORT int nvmlDeviceGetRunningProcessDetailList(void *handle, void *list) {
  (void)list;
  BEGIN_DEVICE(handle);
  return leave(NOT_SUPPORTED);
}
#endif

EXPORT int nvmlDeviceGetProcessUtilization(void *handle, struct process_sample *samples, unsigned *count,
                                           unsigned long long since) {
  BEGIN_DEVICE(handle);
  int owner = (int)(device - now.devices);
  if (device->parent != NO_DEVICE || child(owner, 0) != NO_DEVICE) return leave(NOT_SUPPORTED);
  unsigned found = 0, room = *count;
  for (int i = 0; i < now.sample_count; i++) {
    const struct sample *sample = &now.samples[i];
    if (sample->device != owner || sample->taken <= since) continue;
    if (samples && found < room)
      samples[found] = (struct process_sample){.pid = sample->pid, .taken = sample->taken, .sm = sample->percent};
    found++;
  }
  *count = found;
  if (!found) return leave(NOT_FOUND);
  return leave(found > (samples ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS);
}

#if RELEASE >= 470
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
#endif

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

#if RELEASE >= 470
EXPORT int nvmlDeviceGetRemappedRows(void *handle, uint32_t *correctable, uint32_t *uncorrectable,
                                     uint32_t *pending, uint32_t *failure) {
  BEGIN_DEVICE(handle);
  if (device->retired >= 0 || child((int)(device - now.devices), 0) != NO_DEVICE) return leave(NOT_SUPPORTED);
  *correctable = device->remapped[0], *uncorrectable = device->remapped[1];
  *pending = device->remapped[2], *failure = device->remapped[3];
  return leave(SUCCESS);
}
#endif

EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(void *handle, unsigned *pending) {
  BEGIN_DEVICE(handle);
  if (device->retired < 0) return leave(NOT_SUPPORTED);
  *pending = (unsigned)device->retired;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
  BEGIN_DEVICE(handle);
  *reasons = device->clocks;
  return leave(SUCCESS);
}

#if RELEASE >= 535
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) {
  BEGIN_DEVICE(handle);
  *reasons = device->clocks;
  return leave(SUCCESS);
}
#endif

/* ---- events --------------------------------------------------------------------------------------- */

EXPORT int nvmlEventSetCreate(struct event_set **set) {
  BEGIN(NULL);
  *set = calloc(1, sizeof **set);
  if (!*set) return leave(20);
  char path[512];
  snprintf(path, sizeof path, "%s", getenv("NVML_DOUBLE_STATE") ? getenv("NVML_DOUBLE_STATE") : "/");
  (*set)->session = session;
  (*set)->news = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  inotify_add_watch((*set)->news, dirname(path), IN_MOVED_TO | IN_DELETE | IN_CLOSE_WRITE);
  return leave(SUCCESS);
}

EXPORT int nvmlEventSetFree(struct event_set *set) {
  int code = enter(__func__, NULL);
  if (set->waiting || set->session != session) abort(); /* the real one frees it twice, or under the waiter */
  close(set->news);
  free(set);
  return leave(code);
}

EXPORT int nvmlDeviceGetSupportedEventTypes(void *handle, uint64_t *types) {
  BEGIN_DEVICE(handle);
  *types = device->events;
  return leave(SUCCESS);
}

EXPORT int nvmlDeviceRegisterEvents(void *handle, uint64_t types, struct event_set *set) {
  BEGIN_DEVICE(handle);
  if (set->session != session) abort();
  if (types & ~device->events) return leave(NOT_SUPPORTED);
  long slot = (struct slot *)handle - slots;
  set->registered[slot] = 1;
  for (int i = 0; i < now.xid_count; i++) /* what was before is never delivered */
    if (!strcmp(now.xids[i].uuid, device->uuid)) set->seen[slot] = now.xids[i].sequence;
  return leave(SUCCESS);
}

#if RELEASE >= 470
static int event_take(struct event_set *set, struct event_data *data) {
  for (int i = 0; i < now.xid_count; i++) {
    const struct xid *xid = &now.xids[i];
    for (int slot = 0; slot < slot_count; slot++) {
      if (!set->registered[slot] || strcmp(slots[slot].uuid, xid->uuid)) continue;
      if (xid->sequence <= set->seen[slot]) continue;
      set->seen[slot] = xid->sequence;
      *data = (struct event_data){&slots[slot], EVENT_XID, xid->code, xid->gpu_instance,
                                  xid->compute_instance};
      return 1;
    }
  }
  return 0;
}

static int event_look(struct event_set *set, struct event_data *data) {
  int code = enter("nvmlEventSetWait_v2", NULL); /* held here by `hang`: without the lock, as all are */
  if (code) return leave(code);
  if (set->session != session) abort();
  if (epoch != now.epoch) return leave(UNKNOWN);
  return leave(event_take(set, data) ? SUCCESS : TIMEOUT);
}

static void waits(struct event_set *set, int by) {
  pthread_mutex_lock(&lock);
  set->waiting += by, waiting += by;
  pthread_mutex_unlock(&lock);
}

/* Sleeps as the real one does, in poll: a thread that waits costs nothing. */
static void event_sleep(const struct event_set *set, double seconds) {
  char news[1024];
  struct pollfd watched = {.fd = set->news, .events = POLLIN};
  poll(&watched, 1, set->news < 0 && seconds > 0.01 ? 10 : (int)(seconds * 1e3) + 1);
  while (read(set->news, news, sizeof news) > 0) continue;
}

/* Leaves an empty file beside the state, for whom it would be too early to tell of an Xid before. */
static void tell_of_wait(void) {
  char path[4096];
  const char *state = getenv("NVML_DOUBLE_STATE");
  snprintf(path, sizeof path, "%s-waits", state ? state : "/dev/null/");
  int file = open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0644);
  if (file >= 0) close(file);
}

EXPORT int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned milliseconds) {
  double until = monotonic() + milliseconds / 1e3, left = 0;
  int code;
  tell_of_wait();
  waits(set, 1);
  while ((code = event_look(set, data)) == TIMEOUT && (left = until - monotonic()) > 0) event_sleep(set, left);
  waits(set, -1);
  return code;
}
#endif
