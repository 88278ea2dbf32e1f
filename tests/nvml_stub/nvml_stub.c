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

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
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

_Static_assert(sizeof(MemoryV2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(TemperatureV1) == 12, "nvmlTemperature_v1_t");
_Static_assert(sizeof(Process) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(PciInfo) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(FieldValue) == 40, "nvmlFieldValue_t");

static volatile int64_t *slots;
static char *file;
static int initialized;
static char handles[MAX_GPUS];

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
    if (at < handles || at >= handles + slots[H_gpus]) return INVALID_ARGUMENT;
    *gpu = (int)(at - handles);
    return enter(function, *gpu);
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
TEXT(nvmlDeviceGetName, T_name)
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

int nvmlDeviceGetFieldValues(void *handle, int count, FieldValue *fields) {
    int gpu, failed = device_call(FN_nvmlDeviceGetFieldValues, handle, &gpu);
    if (failed) return failed;
    for (int i = 0; i < count; i++) {
        fields[i].value_type = 1;
        fields[i].result = fields[i].id == 82 ? put_number(gpu, V_memory_temperature, &fields[i].value.ui) : NOT_SUPPORTED;
    }
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
