/*
 * A library for LD_PRELOAD that breaks what a program asks of its kernel: the clock steps, and calls on files below a
 * path fail, take long or hang. It is told how by the file that $FAULT_SHIM names, mapped and read at each call;
 * shim_layout.h (written by shim.py) says where things stand in it.
 *
 * CLOCK_MONOTONIC is left alone: neither a step of the clock nor a suspend moves it. What the kernel itself stamps (a
 * file's times, /proc/stat's btime) is the kernel's, except where a program sets a file's times to now.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "shim_layout.h"

#define SECOND 1000000000LL

static volatile int64_t *control;

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("FAULT_SHIM");
    if (!path) return;
    int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *at = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (at != MAP_FAILED && ((int64_t *)at)[H_magic] == MAGIC) control = at;
}

/* The next definition of a function, looked up once. */
#define REAL(name)                                                                                                     \
    static __typeof__(&name) real;                                                                                     \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* -- files ------------------------------------------------------------------------------------------------------- */

/* Do what the rules say of a call on a path: 0 where it may go on, or an errno. */
static int struck(int operation, const char *path) {
    if (!control || !control[H_armed] || !path) return 0;
    int saved = errno, found = 0;
    for (int number = 0; number < RULES && !found; number++) {
        volatile int64_t *rule = control + RULES_AT + number * RULE_SLOTS;
        if (!(rule[R_operations] & operation)) continue;
        const char *prefix = (const char *)(control + PREFIXES_AT) + number * PREFIX_BYTES;
        if (strncmp(path, prefix, strlen(prefix))) continue;
        __atomic_add_fetch(&rule[R_hits], 1, __ATOMIC_RELAXED);
        if (rule[R_delay_ms]) {
            struct timespec pause = {rule[R_delay_ms] / 1000, rule[R_delay_ms] % 1000 * 1000000};
            syscall(SYS_nanosleep, &pause, NULL);
        }
        while (rule[R_hangs] && (rule[R_operations] & operation)) {
            struct timespec pause = {0, SECOND / 50};
            syscall(SYS_nanosleep, &pause, NULL);
        }
        found = (int)rule[R_errno];
    }
    errno = saved;
    return found;
}

static int struck_at(int operation, int directory, const char *path) {
    char whole[PATH_MAX + NAME_MAX], link[64];
    if (!control || !control[H_armed] || !path) return 0;
    if (path[0] == '/') return struck(operation, path);
    int saved = errno;
    if (directory == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    errno = saved;
    if (length <= 0) return 0;
    snprintf(whole + length, sizeof whole - (size_t)length, "/%s", path);
    return struck(operation, whole);
}

static int struck_file(int operation, int file) {
    char path[PATH_MAX], link[64];
    if (!control || !control[H_armed]) return 0;
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    return struck(operation, path);
}

#define STRIKE(failed, number)                                                                                         \
    do {                                                                                                               \
        int strike_ = (number);                                                                                        \
        if (strike_) {                                                                                                 \
            errno = strike_;                                                                                           \
            return failed;                                                                                             \
        }                                                                                                              \
    } while (0)

/* What makes a file, or room in one, is a write: a full disk refuses it. */
static int operations_of(int flags) { return flags & (O_CREAT | O_TRUNC) ? OP_open | OP_create : OP_open; }

static mode_t mode_of(int flags, va_list rest) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        REAL(name);                                                                                                    \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        STRIKE(-1, struck_at(operations_of(flags), AT_FDCWD, path));                                                   \
        return real(path, flags, mode);                                                                                \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int directory, const char *path, int flags, ...) {                                                        \
        REAL(name);                                                                                                    \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        STRIKE(-1, struck_at(operations_of(flags), directory, path));                                                  \
        return real(directory, path, flags, mode);                                                                     \
    }
OPENAT(openat)
OPENAT(openat64)

/* A function of a descriptor: its type, its parameters without the first, and what is handed on. */
#define OF_FILE(type, name, operation, parameters, ...)                                                                \
    type name(int file, __VA_ARGS__) {                                                                                 \
        REAL(name);                                                                                                    \
        STRIKE(-1, struck_file(operation, file));                                                                      \
        return real parameters;                                                                                        \
    }
OF_FILE(ssize_t, read, OP_read, (file, data, size), void *data, size_t size)
OF_FILE(ssize_t, pread, OP_read, (file, data, size, at), void *data, size_t size, off_t at)
OF_FILE(ssize_t, pread64, OP_read, (file, data, size, at), void *data, size_t size, off64_t at)
OF_FILE(ssize_t, write, OP_write, (file, data, size), const void *data, size_t size)
OF_FILE(ssize_t, writev, OP_write, (file, parts, count), const struct iovec *parts, int count)
OF_FILE(ssize_t, pwrite, OP_write, (file, data, size, at), const void *data, size_t size, off_t at)
OF_FILE(ssize_t, pwrite64, OP_write, (file, data, size, at), const void *data, size_t size, off64_t at)
OF_FILE(int, ftruncate, OP_write, (file, size), off_t size)
OF_FILE(int, ftruncate64, OP_write, (file, size), off64_t size)
OF_FILE(int, fstatvfs, OP_statvfs, (file, out), struct statvfs *out)
OF_FILE(int, fstatvfs64, OP_statvfs, (file, out), struct statvfs64 *out)

#define SYNC(name)                                                                                                     \
    int name(int file) {                                                                                               \
        REAL(name);                                                                                                    \
        STRIKE(-1, struck_file(OP_sync, file));                                                                        \
        return real(file);                                                                                             \
    }
SYNC(fsync)
SYNC(fdatasync)

/* A function of a path. */
#define OF_PATH(name, operation, parameters, ...)                                                                      \
    int name(const char *path, ##__VA_ARGS__) {                                                                        \
        REAL(name);                                                                                                    \
        STRIKE(-1, struck_at(operation, AT_FDCWD, path));                                                              \
        return real parameters;                                                                                        \
    }
OF_PATH(mkdir, OP_create, (path, mode), mode_t mode)
OF_PATH(unlink, OP_remove, (path))
OF_PATH(rename, OP_remove, (path, to), const char *to)
OF_PATH(statvfs, OP_statvfs, (path, out), struct statvfs *out)
OF_PATH(statvfs64, OP_statvfs, (path, out), struct statvfs64 *out)
OF_PATH(stat, OP_stat, (path, out), struct stat *out)
OF_PATH(stat64, OP_stat, (path, out), struct stat64 *out)
OF_PATH(lstat, OP_stat, (path, out), struct stat *out)
OF_PATH(lstat64, OP_stat, (path, out), struct stat64 *out)

/* -- the clock --------------------------------------------------------------------------------------------------- */

static int64_t shift_of(clockid_t clock) {
    if (!control) return 0;
    switch (clock) {
        case CLOCK_REALTIME:
        case CLOCK_REALTIME_COARSE:
        case CLOCK_TAI: return control[H_realtime_ns];
        case CLOCK_BOOTTIME:
        case CLOCK_BOOTTIME_ALARM: return control[H_boottime_ns];
        default: return 0;
    }
}

static void move(struct timespec *at, int64_t by) {
    int64_t nanoseconds = at->tv_nsec + by % SECOND;
    at->tv_sec += by / SECOND + (nanoseconds < 0 ? -1 : nanoseconds / SECOND);
    at->tv_nsec = (nanoseconds + SECOND) % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    REAL(clock_gettime);
    int failed = real(clock, at);
    if (!failed) move(at, shift_of(clock));
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    if (!failed) *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* A program that sets a file's times to now means its own now. */
static const struct timespec *times_of(const struct timespec given[2], struct timespec put[2]) {
    if (!control || !control[H_realtime_ns]) return given;
    for (int which = 0; which < 2; which++) {
        put[which] = given ? given[which] : (struct timespec){0, UTIME_NOW};
        if (put[which].tv_nsec == UTIME_NOW) clock_gettime(CLOCK_REALTIME, &put[which]);
    }
    return put;
}

int futimens(int file, const struct timespec given[2]) {
    REAL(futimens);
    struct timespec put[2];
    STRIKE(-1, struck_file(OP_write, file));
    return real(file, times_of(given, put));
}

int utimensat(int directory, const char *path, const struct timespec given[2], int flags) {
    REAL(utimensat);
    struct timespec put[2];
    STRIKE(-1, struck_at(OP_write, directory, path));
    return real(directory, path, times_of(given, put), flags);
}
