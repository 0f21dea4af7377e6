/* How many CPUs there are for us. The affinity mask may change at any time and is asked for at each call, the rest is read
 * once. */
#define _GNU_SOURCE
#include "internal.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT = 4096, NO_LIMIT = 1 << 20 };

static struct {
    atomic_int quota;                    /* CPUs of the cgroup; 0: not known yet */
    atomic_int is_known, lock;           /* the rest is, which is written once under the lock */
    long wish;                           /* OMP_NUM_THREADS, if it is more than 0 */
    int has_siblings;                    /* cores have several CPUs */
    unsigned short core_of[CPU_SETSIZE]; /* then: the lowest sibling of a CPU */
} machine;

/* The text of a small file, or "". */
static const char *read_text(const char *path, char text[TEXT])
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = file < 0 ? 0 : read(file, text, TEXT - 1);
    if (file >= 0)
        close(file);
    text[size > 0 ? size : 0] = '\0';
    return text;
}

/* Appends to a path; 0 if it has no room. */
static int append(char path[TEXT], const char *more, size_t length)
{
    const size_t size = strlen(path);
    if (size + length >= TEXT)
        return 0;
    memcpy(path + size, more, length);
    path[size + length] = '\0';
    return 1;
}

static int append_text(char path[TEXT], const char *more)
{
    return append(path, more, strlen(more));
}

/* quota / period in whole CPUs. */
static int cpus_of(long long microseconds, long long period)
{
    if (microseconds <= 0 || period <= 0)
        return NO_LIMIT;
    const long long cpus = microseconds / period;
    return cpus < 1 ? 1 : cpus < NO_LIMIT ? (int)cpus : NO_LIMIT;
}

/* Version 2: "max 100000" or "150000 100000". */
static int quota_2(const char *folder)
{
    char path[TEXT], text[TEXT], *end;
    path[0] = '\0';
    if (!append_text(path, folder) || !append_text(path, "/cpu.max"))
        return NO_LIMIT;
    const long long microseconds = strtoll(read_text(path, text), &end, 10);
    return cpus_of(microseconds, strtoll(end, NULL, 10));
}

static int quota_1(const char *folder)
{
    char path[TEXT], text[TEXT];
    path[0] = '\0';
    if (!append_text(path, folder) || !append_text(path, "/cpu.cfs_quota_us"))
        return NO_LIMIT;
    const long long microseconds = strtoll(read_text(path, text), NULL, 10);
    path[strlen(path) - strlen("quota_us")] = '\0';
    return append_text(path, "period_us") ? cpus_of(microseconds, strtoll(read_text(path, text), NULL, 10)) : NO_LIMIT;
}

/* The least quota of a group and all above it: `mount` is the file system, `group` a line's path below it. */
static int least_quota(const char *mount, const char *group, size_t length, int (*quota_of)(const char *folder))
{
    char folder[TEXT];
    int least = NO_LIMIT;
    folder[0] = '\0';
    if (!append_text(folder, mount) || !append(folder, group, length))
        return NO_LIMIT;
    for (;;) {
        const int cpus = quota_of(folder);
        least = cpus < least ? cpus : least;
        char *slash = strrchr(folder, '/');
        if ((size_t)(slash - folder) < strlen(mount))
            return least;
        *slash = '\0';
    }
}

/* Whether "cpu" is among the controllers "a,b,c:". */
static int has_cpu(const char *controllers, const char *end)
{
    for (const char *name = controllers; name < end; name += strcspn(name, ",:") + 1)
        if (strncmp(name, "cpu,", 4) == 0 || strncmp(name, "cpu:", 4) == 0)
            return 1;
    return 0;
}

/* Lines are "hierarchy:controllers:path"; version 2 is hierarchy 0. */
static int read_quota(void)
{
    char text[TEXT];
    int least = NO_LIMIT;
    for (const char *line = read_text("/proc/self/cgroup", text); *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            break;
        const size_t length = strcspn(path + 1, "\n");
        int cpus = NO_LIMIT;
        if (path == controllers + 1)
            cpus = least_quota("/sys/fs/cgroup", path + 1, length, quota_2);
        else if (has_cpu(controllers + 1, path))
            cpus = least_quota("/sys/fs/cgroup/cpu", path + 1, length, quota_1);
        least = cpus < least ? cpus : least;
    }
    return least;
}

static int group_quota(void)
{
    int cpus = atomic_load_explicit(&machine.quota, memory_order_relaxed);
    if (cpus == 0)
        atomic_store_explicit(&machine.quota, cpus = read_quota(), memory_order_relaxed);
    return cpus;
}

/* The number at the head of /sys/devices/system/cpu/cpu<n>/topology/thread_siblings_list, or the CPU's own. */
static int lowest_sibling(int cpu)
{
    char path[TEXT] = "/sys/devices/system/cpu/cpu", text[TEXT], digits[8];
    int i = sizeof digits;
    digits[--i] = '\0';
    for (int left = cpu; i == sizeof digits - 1 || left > 0; left /= 10)
        digits[--i] = (char)('0' + left % 10);
    append_text(path, digits + i);
    append_text(path, "/topology/thread_siblings_list");
    char *end;
    const long first = strtol(read_text(path, text), &end, 10);
    return end != text && first >= 0 && first < CPU_SETSIZE ? (int)first : cpu;
}

static void find_cores(void)
{
    char text[TEXT];
    const char *wish = getenv("OMP_NUM_THREADS");
    machine.wish = wish ? strtol(wish, NULL, 10) : 0;
    machine.has_siblings = *read_text("/sys/devices/system/cpu/smt/active", text) == '1';
    const long cpus = sysconf(_SC_NPROCESSORS_CONF);
    for (int cpu = 0; machine.has_siblings && cpu < CPU_SETSIZE; cpu++)
        machine.core_of[cpu] = (unsigned short)(cpu < cpus ? lowest_sibling(cpu) : cpu);
}

static void know_cores(void)
{
    if (atomic_load_explicit(&machine.is_known, memory_order_acquire))
        return;
    while (atomic_exchange_explicit(&machine.lock, 1, memory_order_acquire))
        sched_yield();
    if (!atomic_load_explicit(&machine.is_known, memory_order_relaxed))
        find_cores();
    atomic_store_explicit(&machine.is_known, 1, memory_order_release);
    atomic_store_explicit(&machine.lock, 0, memory_order_release);
}

/* Not even a machine of more CPUs than the mask has room for fails: it counts as one CPU. */
static int get_mask(cpu_set_t *mask)
{
    CPU_ZERO(mask);
    return sched_getaffinity(0, sizeof *mask, mask) == 0 && CPU_COUNT(mask) > 0;
}

int gated_usable_cpus(void)
{
    cpu_set_t mask;
    return get_mask(&mask) ? CPU_COUNT(&mask) : 1;
}

static int count_cores(void)
{
    cpu_set_t mask, cores;
    if (!get_mask(&mask))
        return 1;
    know_cores();
    if (!machine.has_siblings)
        return CPU_COUNT(&mask);
    CPU_ZERO(&cores);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mask))
            CPU_SET(machine.core_of[cpu], &cores);
    return CPU_COUNT(&cores);
}

int gated_usable_cores(void)
{
    int cores = count_cores();
    const int limit = group_quota();
    cores = cores < limit ? cores : limit;
    return machine.wish > 0 && machine.wish < cores ? (int)machine.wish : cores;
}
