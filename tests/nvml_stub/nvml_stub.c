/*
 * A libnvidia-ml.so.1 for tests. Every answer, and every fault, comes from the file that $NVML_STUB_CONTROL names,
 * which is mapped and read at each call; layout.h (written from layout.py) says where things stand in it.
 *
 * It is as strict as the driver: calls before nvmlInit, wrong structure versions, buffers that are too small and
 * handles that it never gave out are refused. Structures are laid out as NVML's documentation has them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

#define MAX_MIG 7

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
};

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned version; int sensor; int temperature; } TemperatureV1;
typedef struct { unsigned pid; unsigned long long memory; unsigned gpu_instance, compute_instance; } Process;
typedef struct { char legacy[16]; unsigned domain, bus, device, pci_id, subsystem_id; char bus_id[32]; } PciInfo;
typedef struct {
    unsigned id, scope;
    long long timestamp, latency_us;
    unsigned value_type;
    int result;
    union { double d; int si; unsigned ui; unsigned long ul; unsigned long long ull; long long sll; } value;
} FieldValue;

typedef struct { unsigned pid; unsigned long long time; unsigned sm, memory, encoder, decoder; } Share;
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
typedef struct { int gpu; long long number; } GpmSample;
typedef struct { unsigned id; int result; double value; const char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; GpmSample *before, *after; GpmMetric metrics[]; } GpmQuestion;

_Static_assert(sizeof(Share) == 32, "nvmlProcessUtilizationSample_t");
_Static_assert(sizeof(Event) == 32, "nvmlEventData_t");
_Static_assert(sizeof(GpmMetric) == 40, "nvmlGpmMetric_t");
_Static_assert(sizeof(GpmQuestion) == 24, "nvmlGpmMetricsGet_t");
_Static_assert(sizeof(MemoryV2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(TemperatureV1) == 12, "nvmlTemperature_v1_t");
_Static_assert(sizeof(Process) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(PciInfo) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(FieldValue) == 40, "nvmlFieldValue_t");

static volatile int64_t *slots;
static char *file;
static int initialized;
static char handles[MAX_GPUS];
static char mig_handles[MAX_GPUS * MAX_MIG];
static char seen_lost[MAX_GPUS + 1];
static char registered[MAX_GPUS];

static int open_control(void) {
    if (slots != NULL) return 1;
    const char *path = getenv("NVML_STUB_CONTROL");
    int fd = path == NULL ? -1 : open(path, O_RDWR);
    if (fd < 0) return 0;
    void *mapped = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) return 0;
    file = mapped;
    slots = mapped;
    if (slots[H_magic] != MAGIC) abort(); /* compiled from another layout */
    return 1;
}

static int64_t value_of(int gpu, int which) { return slots[VALUES_AT + gpu * V_COUNT + which]; }
static const char *text_of(int gpu, int which) { return file + TEXTS_AT + (gpu * T_COUNT + which) * TEXT_BYTES; }

static void sleep_ms(int64_t ms) {
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Counts the call and does what the fault says: an error code to return, or 0 to go on. */
static int enter(int function, int row) {
    volatile int64_t *fault = slots + FAULTS_AT + (row * FN_COUNT + function) * F_COUNT;
    __atomic_fetch_add(&fault[F_count], 1, __ATOMIC_SEQ_CST);
    if (fault[F_action] == ACTION_return && fault[F_argument] == LOST) seen_lost[row] = 1;
    if (seen_lost[row]) return LOST; /* until the driver is opened anew */
    switch (fault[F_action]) {
    case ACTION_return:
        return (int)fault[F_argument];
    case ACTION_hang:
        while (fault[F_action] == ACTION_hang) sleep_ms(2);
        return SUCCESS;
    case ACTION_crash: {
        volatile int *nowhere = NULL;
        return *nowhere;
    }
    case ACTION_exit:
        _exit((int)fault[F_argument]);
    case ACTION_sleep:
        sleep_ms(fault[F_argument]);
        return SUCCESS;
    default:
        return SUCCESS;
    }
}

static int system_call(int function) {
    if (!initialized) return UNINITIALIZED;
    return enter(function, SYSTEM);
}

/* The GPU of a handle in *gpu, and what its fault says. */
static int device_call(int function, void *handle, int *gpu) {
    if (!initialized) return UNINITIALIZED;
    char *at = handle;
    if (at >= mig_handles && at < mig_handles + sizeof mig_handles) {
        *gpu = (int)(at - mig_handles) / MAX_MIG;
    } else if (at < handles || at >= handles + slots[H_gpus]) {
        return INVALID_ARGUMENT;
    } else {
        *gpu = (int)(at - handles);
    }
    return enter(function, *gpu);
}

static int is_mig(void *handle) {
    return (char *)handle >= mig_handles && (char *)handle < mig_handles + sizeof mig_handles;
}

static int put_text(const char *text, char *buffer, unsigned size) {
    if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return SUCCESS;
}

static int put_number(int gpu, int which, unsigned *out) {
    int64_t value = value_of(gpu, which);
    if (value < 0) return NOT_SUPPORTED;
    *out = (unsigned)value;
    return SUCCESS;
}

/* An entry point that answers one unsigned number. */
#define NUMBER(function, which)                                   \
    int function(void *handle, unsigned *out) {                   \
        int gpu, failed = device_call(FN_##function, handle, &gpu); \
        return failed ? failed : put_number(gpu, which, out);     \
    }

/* An entry point that answers a text. */
#define TEXT(function, which)                                               \
    int function(void *handle, char *buffer, unsigned size) {               \
        int gpu, failed = device_call(FN_##function, handle, &gpu);         \
        return failed ? failed : put_text(text_of(gpu, which), buffer, size); \
    }

/* -- the whole system ------------------------------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!open_control()) return DRIVER_NOT_LOADED;
    int failed = enter(FN_nvmlInitWithFlags, SYSTEM);
    if (failed) return failed;
    memset(seen_lost, 0, sizeof seen_lost);
    initialized = 1;
    return SUCCESS;
}

int nvmlShutdown(void) {
    int failed = system_call(FN_nvmlShutdown);
    if (failed) return failed;
    initialized = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *buffer, unsigned size) {
    int failed = system_call(FN_nvmlSystemGetDriverVersion);
    return failed ? failed : put_text(file + SYSTEM_TEXTS_AT + ST_driver_version * TEXT_BYTES, buffer, size);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    int failed = system_call(FN_nvmlSystemGetCudaDriverVersion_v2);
    if (failed) return failed;
    *version = (int)slots[H_cuda_version];
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int failed = system_call(FN_nvmlDeviceGetCount_v2);
    if (failed) return failed;
    *count = (unsigned)slots[H_gpus];
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (!initialized) return UNINITIALIZED;
    if (index >= slots[H_gpus]) return INVALID_ARGUMENT;
    int failed = enter(FN_nvmlDeviceGetHandleByIndex_v2, (int)index);
    if (failed) return failed;
    *handle = handles + index;
    return SUCCESS;
}

/* -- one GPU: what does not change ------------------------------------------------------------------------------ */

TEXT(nvmlDeviceGetUUID, T_uuid)

int nvmlDeviceGetName(void *handle, char *buffer, unsigned size) {
    int gpu, failed = device_call(FN_nvmlDeviceGetName, handle, &gpu);
    if (failed) return failed;
    char name[2 * TEXT_BYTES];
    snprintf(name, sizeof name, "%s%s", text_of(gpu, T_name), is_mig(handle) ? " MIG 1g.18gb" : "");
    return put_text(name, buffer, size);
}

NUMBER(nvmlDeviceGetMinorNumber, V_minor)

int nvmlDeviceGetPciInfo_v3(void *handle, PciInfo *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetPciInfo_v3, handle, &gpu);
    if (failed) return failed;
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", text_of(gpu, T_bus_id));
    return SUCCESS;
}

int nvmlDeviceGetTemperatureThreshold(void *handle, unsigned which, unsigned *out) {
    static const int values[] = {
        V_shutdown_temperature, V_slowdown_temperature, V_mem_max_temperature, V_gpu_max_temperature};
    int gpu, failed = device_call(FN_nvmlDeviceGetTemperatureThreshold, handle, &gpu);
    if (failed) return failed;
    if (which >= sizeof values / sizeof *values) return NOT_SUPPORTED;
    return put_number(gpu, values[which], out);
}

static int put_clock(int gpu, unsigned type, int sm, int memory, unsigned *out) {
    if (type > 3) return INVALID_ARGUMENT;
    if (type == 3) return NOT_SUPPORTED;
    return put_number(gpu, type == 2 ? memory : sm, out);
}

int nvmlDeviceGetMaxClockInfo(void *handle, unsigned type, unsigned *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetMaxClockInfo, handle, &gpu);
    return failed ? failed : put_clock(gpu, type, V_max_sm_clock, V_max_mem_clock, out);
}

/* -- one GPU: readings ------------------------------------------------------------------------------------------ */

NUMBER(nvmlDeviceGetPowerUsage, V_power_mw)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, V_power_limit_mw)
NUMBER(nvmlDeviceGetPerformanceState, V_pstate)
NUMBER(nvmlDeviceGetFanSpeed, V_fan_speed)

int nvmlDeviceGetUtilizationRates(void *handle, Utilization *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetUtilizationRates, handle, &gpu);
    if (failed) return failed;
    failed = put_number(gpu, V_gpu_util, &out->gpu);
    return failed ? failed : put_number(gpu, V_mem_util, &out->memory);
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, MemoryV2 *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetMemoryInfo_v2, handle, &gpu);
    if (failed) return failed;
    if (out->version != (sizeof *out | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (value_of(gpu, V_memory_total) < 0) return NOT_SUPPORTED;
    out->total = (unsigned long long)value_of(gpu, V_memory_total);
    out->reserved = (unsigned long long)value_of(gpu, V_memory_reserved);
    out->free = (unsigned long long)value_of(gpu, V_memory_free);
    out->used = (unsigned long long)value_of(gpu, V_memory_used);
    if (is_mig(handle)) {
        out->total /= 8, out->reserved /= 8, out->free /= 8, out->used /= 8;
    }
    return SUCCESS;
}

int nvmlDeviceGetTemperatureV(void *handle, TemperatureV1 *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetTemperatureV, handle, &gpu);
    if (failed) return failed;
    if (out->version != (sizeof *out | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (out->sensor != 0) return INVALID_ARGUMENT;
    return put_number(gpu, V_temperature, (unsigned *)&out->temperature);
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetTemperature, handle, &gpu);
    if (failed) return failed;
    return sensor != 0 ? INVALID_ARGUMENT : put_number(gpu, V_temperature, out);
}

int nvmlDeviceGetClockInfo(void *handle, unsigned type, unsigned *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetClockInfo, handle, &gpu);
    return failed ? failed : put_clock(gpu, type, V_sm_clock, V_mem_clock, out);
}

static int put_field(int gpu, FieldValue *field) {
    for (unsigned i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        if (FIELDS[i].id != field->id) continue;
        int64_t value = value_of(gpu, FIELDS[i].value);
        if (value < 0) return NOT_SUPPORTED;
        if (field->id >= 161 && field->id <= 163 && field->scope >= value_of(gpu, V_nvlinks)) return INVALID_ARGUMENT;
        int narrow = field->id == 82 || field->id == 186 || field->id == 94 || field->id == 230;
        field->value_type = narrow ? 1 : 3;
        if (narrow) field->value.ui = (unsigned)value;
        else field->value.ull = (unsigned long long)value;
        return SUCCESS;
    }
    return NOT_SUPPORTED;
}

int nvmlDeviceGetFieldValues(void *handle, int count, FieldValue *fields) {
    int gpu, failed = device_call(FN_nvmlDeviceGetFieldValues, handle, &gpu);
    if (failed) return failed;
    for (int i = 0; i < count; i++) fields[i].result = put_field(gpu, &fields[i]);
    return SUCCESS;
}

static int put_reasons(int gpu, unsigned long long *out) {
    if (value_of(gpu, V_clocks_event_reasons) < 0) return NOT_SUPPORTED;
    *out = (unsigned long long)value_of(gpu, V_clocks_event_reasons);
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetCurrentClocksEventReasons, handle, &gpu);
    return failed ? failed : put_reasons(gpu, out);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetCurrentClocksThrottleReasons, handle, &gpu);
    return failed ? failed : put_reasons(gpu, out);
}

/* -- one GPU: processes ----------------------------------------------------------------------------------------- */

static int put_processes(int gpu, int kind, unsigned *count, Process *out) {
    unsigned room = *count, found = 0;
    for (int i = 0; i < value_of(gpu, V_processes) && i < MAX_PROCESSES; i++) {
        volatile int64_t *process = slots + PROCESSES_AT + (gpu * MAX_PROCESSES + i) * P_COUNT;
        if (process[P_kind] != kind) continue;
        if (out != NULL && found < room) {
            out[found] = (Process){(unsigned)process[P_pid], (unsigned long long)process[P_memory], ~0u, ~0u};
        }
        found++;
    }
    *count = found;
    return found > (out == NULL ? 0 : room) ? INSUFFICIENT_SIZE : SUCCESS;
}

#define PROCESSES(function, kind)                                       \
    int function(void *handle, unsigned *count, Process *out) {         \
        int gpu, failed = device_call(FN_##function, handle, &gpu);     \
        return failed ? failed : put_processes(gpu, kind, count, out);  \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, KIND_compute)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, KIND_mps)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, KIND_graphics)

int nvmlDeviceGetProcessUtilization(void *handle, Share *out, unsigned *count, unsigned long long since) {
    int gpu, failed = device_call(FN_nvmlDeviceGetProcessUtilization, handle, &gpu);
    if (failed) return failed;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long time = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
    unsigned room = *count, found = 0;
    for (int i = 0; i < value_of(gpu, V_processes) && i < MAX_PROCESSES && time > since; i++) {
        volatile int64_t *process = slots + PROCESSES_AT + (gpu * MAX_PROCESSES + i) * P_COUNT;
        if (process[P_sm] < 0) continue;
        if (out != NULL && found < room) {
            out[found] = (Share){(unsigned)process[P_pid], time, (unsigned)process[P_sm], (unsigned)process[P_mem], 0, 0};
        }
        found++;
    }
    *count = found;
    if (!found) return NOT_FOUND;
    return found > (out == NULL ? 0 : room) ? INSUFFICIENT_SIZE : SUCCESS;
}

/* -- one GPU: what is read seldom ------------------------------------------------------------------------------- */

NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, V_max_pcie_gen)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, V_max_pcie_width)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, V_pcie_gen)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, V_pcie_width)
NUMBER(nvmlDeviceGetMaxMigDeviceCount, V_mig_instances)

/* An entry point that answers a number and how long it was sampled. */
#define SAMPLED(function, which)                                    \
    int function(void *handle, unsigned *out, unsigned *period) {   \
        int gpu, failed = device_call(FN_##function, handle, &gpu); \
        *period = 100000;                                           \
        return failed ? failed : put_number(gpu, which, out);       \
    }

SAMPLED(nvmlDeviceGetEncoderUtilization, V_enc_util)
SAMPLED(nvmlDeviceGetDecoderUtilization, V_dec_util)

static int put_long(int gpu, int which, unsigned long long *out) {
    if (value_of(gpu, which) < 0) return NOT_SUPPORTED;
    *out = (unsigned long long)value_of(gpu, which);
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetTotalEnergyConsumption, handle, &gpu);
    return failed ? failed : put_long(gpu, V_energy_mj, out);
}

int nvmlDeviceGetTotalEccErrors(void *handle, unsigned kind, unsigned counter, unsigned long long *out) {
    static const int values[2][2] = {
        {V_ecc_sbe_volatile, V_ecc_sbe_aggregate}, {V_ecc_dbe_volatile, V_ecc_dbe_aggregate}};
    int gpu, failed = device_call(FN_nvmlDeviceGetTotalEccErrors, handle, &gpu);
    if (failed) return failed;
    return kind > 1 || counter > 1 ? INVALID_ARGUMENT : put_long(gpu, values[kind][counter], out);
}

int nvmlDeviceGetRemappedRows(void *handle, unsigned *correctable, unsigned *other, unsigned *pending, unsigned *failure) {
    int gpu, failed = device_call(FN_nvmlDeviceGetRemappedRows, handle, &gpu);
    if (!failed) failed = put_number(gpu, V_remapped_correctable, correctable);
    if (!failed) failed = put_number(gpu, V_remapped_uncorrectable, other);
    if (!failed) failed = put_number(gpu, V_remap_pending, pending);
    return failed ? failed : put_number(gpu, V_remap_failure, failure);
}

static int link_of(int gpu, unsigned link) {
    if (value_of(gpu, V_nvlinks) < 0) return NOT_SUPPORTED;
    return link < value_of(gpu, V_nvlinks) ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetNvLinkState(void *handle, unsigned link, unsigned *up) {
    int gpu, failed = device_call(FN_nvmlDeviceGetNvLinkState, handle, &gpu);
    if (!failed) failed = link_of(gpu, link);
    *up = failed ? 0 : link >= value_of(gpu, V_nvlinks_down);
    return failed;
}

/* Every link leads to a switch, which has no address that a guest may see. */
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *handle, unsigned link, PciInfo *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetNvLinkRemotePciInfo_v2, handle, &gpu);
    if (!failed) failed = link_of(gpu, link);
    memset(out, 0, sizeof *out);
    strcpy(out->bus_id, "FFFFFFFF:FF:FF.0");
    return failed;
}

int nvmlDeviceGetP2PStatus(void *handle, void *other, int kind, int *status) {
    int gpu, failed = device_call(FN_nvmlDeviceGetP2PStatus, handle, &gpu);
    (void)other;
    (void)kind;
    *status = failed || value_of(gpu, V_nvlinks) < 1 ? 5 : 0;
    return failed;
}

int nvmlDeviceGetTopologyCommonAncestor(void *handle, void *other, int *level) {
    int gpu, failed = device_call(FN_nvmlDeviceGetTopologyCommonAncestor, handle, &gpu);
    (void)other;
    *level = 50;
    return failed;
}

int nvmlDeviceGetCpuAffinity(void *handle, unsigned words, unsigned long *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetCpuAffinity, handle, &gpu);
    if (failed) return failed;
    memset(out, 0, words * sizeof *out);
    *out = (unsigned long)value_of(gpu, V_affinity);
    return SUCCESS;
}

/* Here so that a test sees that nobody calls it. */
int nvmlDeviceGetPcieThroughput(void *handle, unsigned counter, unsigned *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetPcieThroughput, handle, &gpu);
    (void)counter;
    *out = 0;
    return failed;
}

/* -- MIG -------------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) {
    int gpu, failed = device_call(FN_nvmlDeviceGetMigMode, handle, &gpu);
    if (!failed) failed = put_number(gpu, V_mig_mode, now);
    *pending = failed ? 0 : *now;
    return failed;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetMigDeviceHandleByIndex, handle, &gpu);
    if (failed) return failed;
    if (index >= value_of(gpu, V_mig_instances) || index >= MAX_MIG) return NOT_FOUND;
    *out = mig_handles + gpu * MAX_MIG + index;
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *out) {
    int gpu, failed = device_call(FN_nvmlDeviceGetGpuInstanceId, handle, &gpu);
    if (failed) return failed;
    if (!is_mig(handle)) return INVALID_ARGUMENT;
    *out = 7 + (unsigned)(((char *)handle - mig_handles) % MAX_MIG);
    return SUCCESS;
}

/* -- events ----------------------------------------------------------------------------------------------------- */

int nvmlEventSetCreate(void **out) {
    int failed = system_call(FN_nvmlEventSetCreate);
    *out = registered;
    return failed;
}

int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, void *set) {
    int gpu, failed = device_call(FN_nvmlDeviceRegisterEvents, handle, &gpu);
    if (failed) return failed;
    if (set != registered || types != 8) return INVALID_ARGUMENT;
    registered[gpu] = 1;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void *set, Event *out, unsigned timeout_ms) {
    int failed = system_call(FN_nvmlEventSetWait_v2);
    if (failed) return failed;
    if (set != registered) return INVALID_ARGUMENT;
    for (int gpu = 0; gpu < slots[H_gpus]; gpu++) {
        int64_t code = value_of(gpu, V_xid);
        if (!registered[gpu] || code <= 0) continue;
        slots[VALUES_AT + gpu * V_COUNT + V_xid] = 0;
        *out = (Event){handles + gpu, 8, (unsigned long long)code, ~0u, ~0u};
        return SUCCESS;
    }
    sleep_ms(timeout_ms);
    return TIMEOUT;
}

/* -- GPM -------------------------------------------------------------------------------------------------------- */

int nvmlGpmQueryDeviceSupport(void *handle, unsigned *out) {
    int gpu, failed = device_call(FN_nvmlGpmQueryDeviceSupport, handle, &gpu);
    if (failed) return failed;
    if (out[0] != 1) return ARGUMENT_VERSION_MISMATCH;
    return put_number(gpu, V_gpm_supported, &out[1]);
}

int nvmlGpmSampleAlloc(GpmSample **out) {
    int failed = system_call(FN_nvmlGpmSampleAlloc);
    *out = failed ? NULL : calloc(1, sizeof **out);
    return failed;
}

static long long samples;

int nvmlGpmSampleGet(void *handle, GpmSample *out) {
    int gpu, failed = device_call(FN_nvmlGpmSampleGet, handle, &gpu);
    if (!failed) *out = (GpmSample){gpu, ++samples};
    return failed;
}

int nvmlGpmMigSampleGet(void *handle, unsigned instance, GpmSample *out) {
    int gpu, failed = device_call(FN_nvmlGpmMigSampleGet, handle, &gpu);
    if (!failed && instance < 7) failed = INVALID_ARGUMENT;
    if (!failed) *out = (GpmSample){gpu, ++samples};
    return failed;
}

int nvmlGpmMetricsGet(GpmQuestion *asked) {
    if (asked->version != 1) return ARGUMENT_VERSION_MISMATCH;
    if (asked->before->number >= asked->after->number || asked->before->number == 0) return INVALID_ARGUMENT;
    int gpu = asked->after->gpu, failed = enter(FN_nvmlGpmMetricsGet, gpu);
    if (failed) return failed;
    for (unsigned i = 0; i < asked->count; i++) {
        GpmMetric *metric = &asked->metrics[i];
        metric->result = NOT_SUPPORTED;
        for (unsigned at = 0; at < sizeof GPM / sizeof *GPM; at++) {
            if (GPM[at].id != metric->id) continue;
            int64_t value = value_of(gpu, GPM[at].value);
            metric->result = SUCCESS;
            metric->value = value < 0 ? __builtin_nan("") : (double)value / 100;
        }
    }
    return SUCCESS;
}
