/* A stand-in for libnvidia-ml.so.1, for machines without a GPU.
 *
 * It stands in for the GPU and its driver only: the binding above it (nvidia-ml-py) and all that
 * reads through that are the real ones. It measures nothing. Each call reads again the files in
 * the folder named by TIDEGATE_NVML_STATE: "gpu-count" with a number, and "gpu-N" with words
 *
 *   utilisation_pct memory_used_bytes memory_total_bytes power_mw temperature_c
 *   ecc_errors remapped_rows remap_failed xid mig sm_clock_mhz memory_clock_mhz throttle_reasons
 *   gpm_sm_pct gpm_memory_pct gpm_error pid error hang_ms hang_only   (each as key=value)
 *   gpm gpm_graphics_pct_N gpm_sm_pct_N gpm_memory_pct_N gpm_error_N instance_N
 *
 * A quantity without its word is not supported by that card. error=15 makes every call for that
 * card fail with NVML's error 15; hang_ms=3000 makes each take three seconds, and with
 * hang_only=power_mw that one alone; xid=79 is reported once to every event set that the card is
 * registered with; pid=0 is no process. With hang_ms in gpu-count the driver itself hangs.
 * instance_2=7 says that the third MIG device of the card is GPU instance 7; gpm=1 that GPM is
 * there though the card, being partitioned, has no sample of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default"))) int
enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
       DRIVER_NOT_LOADED = 9, TIMEOUT = 10, MEMORY = 20, VERSION_MISMATCH = 25, UNKNOWN = 999 };
enum { MOST_GPUS = 1024, PATH_BYTES = 4096, LINE_BYTES = 1024,
       INSTANCE_BITS = 16, MOST_INSTANCES = 7 };

typedef unsigned long long u64;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } memory_v2_t;
typedef struct { void *device; u64 type, data; unsigned gpu_instance, compute_instance; } event_t;
typedef struct { char registered[MOST_GPUS]; u64 told[MOST_GPUS]; } event_set_t;
typedef struct { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned version, supported; } gpm_support_t;
typedef struct { unsigned graphics_pct, sm_pct, memory_pct, is_taken; } sample_t;
typedef struct { unsigned id; int result; double value; char *names[3]; } gpm_metric_t;
typedef struct { unsigned version, count; sample_t *earlier, *later; gpm_metric_t metrics[]; }
    gpm_asked_t;

static const u64 XID_EVENT = 0x8;

static int read_line(const char *name, char line[LINE_BYTES]) {
    const char *folder = getenv("TIDEGATE_NVML_STATE");
    char path[PATH_BYTES];
    if (!folder || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return DRIVER_NOT_LOADED;
    FILE *file = fopen(path, "r");
    if (!file) return DRIVER_NOT_LOADED;
    line[0] = ' '; /* so that every key, the first too, follows a space */
    int is_read = fgets(line + 1, LINE_BYTES - 1, file) != NULL;
    fclose(file);
    return is_read ? SUCCESS : UNKNOWN;
}

static int word(const char *line, const char *key, u64 *value) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, " %s=", key);
    const char *at = strstr(line, pattern);
    if (!at) return NOT_SUPPORTED;
    *value = strtoull(at + strlen(pattern), NULL, 10);
    return SUCCESS;
}

/* A MIG device's handle is its card's, with its number above. */
static int index_of(void *device) { return (int)((size_t)device & 0xFFFF) - 1; }
static int part_of(void *device) { return (int)((size_t)device >> INSTANCE_BITS) - 1; }

static void hang(const char *line, const char *key) {
    u64 ms;
    char only[64];
    snprintf(only, sizeof only, " hang_only=%s ", key);
    if (word(line, "hang_ms", &ms) != SUCCESS) return;
    if (strstr(line, " hang_only=") && !strstr(line, only)) return;
    struct timespec pause = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };
    nanosleep(&pause, NULL);
}

static int read_card_for(void *device, const char *key, char line[LINE_BYTES]) {
    char name[32];
    u64 value;
    if (!device) return INVALID;
    snprintf(name, sizeof name, "gpu-%d", index_of(device));
    if (read_line(name, line) != SUCCESS) return UNKNOWN;
    for (char *end = line; *end; end++) if (*end == '\n') *end = ' '; /* ends the last word */
    hang(line, key);
    return word(line, "error", &value) == SUCCESS ? (int)value : SUCCESS;
}

static int read_card(void *device, char line[LINE_BYTES]) {
    return read_card_for(device, "card", line);
}

static int quantity(void *device, const char *key, u64 *value) {
    char line[LINE_BYTES];
    int result = read_card_for(device, key, line);
    return result != SUCCESS ? result : word(line, key, value);
}

static int small_quantity(void *device, const char *key, unsigned *value) {
    u64 found = 0;
    int result = quantity(device, key, &found);
    if (result == SUCCESS) *value = (unsigned)found;
    return result;
}

static int copy(char *target, unsigned length, const char *text) {
    return snprintf(target, length, "%s", text) >= (int)length ? INSUFFICIENT_SIZE : SUCCESS;
}

API nvmlDeviceGetCount_v2(unsigned *count) {
    char line[LINE_BYTES];
    int result = read_line("gpu-count", line);
    if (result == SUCCESS) hang(line, "count");
    if (result == SUCCESS) *count = (unsigned)strtoul(line, NULL, 10);
    return result == SUCCESS && *count > MOST_GPUS ? INVALID : result;
}

API nvmlInitWithFlags(unsigned flags) {
    unsigned count;
    (void)flags;
    return nvmlDeviceGetCount_v2(&count);
}

API nvmlShutdown(void) { return SUCCESS; }

API nvmlSystemGetDriverVersion(char *version, unsigned length) {
    return copy(version, length, "0.0-stand-in");
}

API nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    unsigned count = 0;
    int result = nvmlDeviceGetCount_v2(&count);
    if (result != SUCCESS) return result;
    if (index >= count) return INVALID;
    *device = (void *)(size_t)(index + 1);
    return SUCCESS;
}

API nvmlDeviceGetName(void *device, char *name, unsigned length) {
    char line[LINE_BYTES];
    int result = read_card(device, line);
    return result != SUCCESS ? result : copy(name, length, "Tidegate stand-in GPU");
}

API nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    char line[LINE_BYTES], text[64];
    int result = read_card(device, line);
    int part = part_of(device);
    snprintf(text, sizeof text, "%s-00000000-0000-0000-%04d-%012d", part < 0 ? "GPU" : "MIG",
             part < 0 ? 0 : part, index_of(device));
    return result != SUCCESS ? result : copy(uuid, length, text);
}

API nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) {
    unsigned mig = 0;
    int result = small_quantity(device, "mig", &mig);
    if (result != SUCCESS && result != NOT_SUPPORTED) return result;
    if (mig) return NOT_SUPPORTED; /* as on real cards that are partitioned */
    rates->memory = 0;
    return small_quantity(device, "utilisation_pct", &rates->gpu);
}

API nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    int result = quantity(device, "memory_total_bytes", &memory->total);
    if (result == SUCCESS) result = quantity(device, "memory_used_bytes", &memory->used);
    if (result == SUCCESS) memory->free = memory->total - memory->used;
    return result;
}

API nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2_t *memory) {
    memory_t plain;
    if (memory->version != 0x02000028) return VERSION_MISMATCH;
    int result = nvmlDeviceGetMemoryInfo(device, &plain);
    if (result != SUCCESS) return result;
    memory->total = plain.total;
    memory->used = plain.used;
    memory->free = plain.free;
    memory->reserved = 0;
    return SUCCESS;
}

API nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    return small_quantity(device, "power_mw", milliwatts);
}

API nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    return sensor != 0 ? INVALID : small_quantity(device, "temperature_c", celsius);
}

API nvmlDeviceGetTotalEccErrors(void *device, unsigned type, unsigned counter, u64 *count) {
    (void)type, (void)counter;
    return quantity(device, "ecc_errors", count);
}

API nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected,
                              unsigned *pending, unsigned *failed) {
    *corrected = *pending = *failed = 0;
    small_quantity(device, "remap_failed", failed);
    return small_quantity(device, "remapped_rows", uncorrected);
}

API nvmlDeviceGetClockInfo(void *device, unsigned which, unsigned *mhz) {
    return small_quantity(device, which == 1 ? "sm_clock_mhz" : "memory_clock_mhz", mhz);
}

API nvmlDeviceGetCurrentClocksEventReasons(void *device, u64 *reasons) {
    return quantity(device, "throttle_reasons", reasons);
}

API nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *running) {
    unsigned pid = 0, most = *count;
    int result = small_quantity(device, "pid", &pid);
    if (result != SUCCESS) return result;
    *count = pid != 0;
    if (most < *count) return INSUFFICIENT_SIZE;
    if (*count) running[0] = (process_t){ pid, 0, 0xFFFFFFFF, 0xFFFFFFFF };
    return SUCCESS;
}

API nvmlGpmQueryDeviceSupport(void *device, gpm_support_t *support) {
    u64 value;
    support->supported = quantity(device, "gpm_sm_pct", &value) == SUCCESS
                         || quantity(device, "gpm", &value) == SUCCESS;
    return SUCCESS;
}

API nvmlGpmSampleAlloc(sample_t **sample) {
    *sample = calloc(1, sizeof **sample);
    return *sample ? SUCCESS : MEMORY;
}

API nvmlGpmSampleGet(void *device, sample_t *sample) {
    unsigned error = SUCCESS;
    small_quantity(device, "gpm_error", &error);
    if (error != SUCCESS) return (int)error;
    sample->is_taken = 1;
    small_quantity(device, "gpm_memory_pct", &sample->memory_pct);
    return small_quantity(device, "gpm_sm_pct", &sample->sm_pct);
}

static int of_instance(void *device, const char *key, unsigned instance, unsigned *value) {
    char name[64];
    snprintf(name, sizeof name, "%s_%u", key, instance);
    return small_quantity(device, name, value);
}

API nvmlGpmMigSampleGet(void *device, unsigned instance, sample_t *sample) {
    unsigned error = SUCCESS;
    of_instance(device, "gpm_error", instance, &error);
    if (error != SUCCESS) return (int)error;
    sample->is_taken = 1;
    of_instance(device, "gpm_memory_pct", instance, &sample->memory_pct);
    of_instance(device, "gpm_graphics_pct", instance, &sample->graphics_pct);
    return of_instance(device, "gpm_sm_pct", instance, &sample->sm_pct);
}

API nvmlGpmMetricsGet(gpm_asked_t *asked) {
    if (!asked->earlier->is_taken || !asked->later->is_taken) return INVALID; /* as a real one */
    for (unsigned i = 0; i < asked->count; i++) {
        gpm_metric_t *metric = &asked->metrics[i];
        metric->result = SUCCESS;
        metric->value = metric->id == 1 ? asked->later->graphics_pct
                        : metric->id == 2 ? asked->later->sm_pct : asked->later->memory_pct;
    }
    return SUCCESS;
}

API nvmlGpmSampleFree(sample_t *sample) {
    free(sample);
    return SUCCESS;
}

API nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    int result = small_quantity(device, "mig", current);
    *pending = *current;
    return result;
}

API nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    char line[LINE_BYTES];
    *count = MOST_INSTANCES;
    return read_card(device, line);
}

API nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part) {
    unsigned instance;
    int result = of_instance(device, "instance", index, &instance);
    if (result == NOT_SUPPORTED) return NOT_FOUND; /* there may be gaps */
    *part = (void *)((size_t)device | (size_t)(index + 1) << INSTANCE_BITS);
    return result;
}

API nvmlDeviceGetGpuInstanceId(void *part, unsigned *instance) {
    return of_instance(part, "instance", (unsigned)part_of(part), instance);
}

API nvmlEventSetCreate(event_set_t **set) {
    *set = calloc(1, sizeof **set);
    return *set ? SUCCESS : MEMORY;
}

API nvmlDeviceRegisterEvents(void *device, u64 types, event_set_t *set) {
    char line[LINE_BYTES];
    int result = read_card(device, line);
    if (result == SUCCESS && types & ~XID_EVENT) result = NOT_SUPPORTED;
    if (result == SUCCESS) set->registered[index_of(device)] = 1;
    return result;
}

API nvmlEventSetWait_v2(event_set_t *set, event_t *event, unsigned timeout_ms) {
    const struct timespec step = { 0, 10 * 1000000 };
    for (unsigned waited_ms = 0;; waited_ms += 10) {
        for (int index = 0; index < MOST_GPUS; index++) {
            void *device = (void *)(size_t)(index + 1);
            u64 xid = 0;
            if (!set->registered[index] || quantity(device, "xid", &xid) != SUCCESS) continue;
            if (xid == set->told[index]) continue;
            set->told[index] = xid;
            *event = (event_t){ device, XID_EVENT, xid, 0xFFFFFFFF, 0xFFFFFFFF };
            return SUCCESS;
        }
        if (waited_ms >= timeout_ms) return TIMEOUT;
        nanosleep(&step, NULL);
    }
}

API nvmlEventSetFree(event_set_t *set) {
    free(set);
    return SUCCESS;
}
