#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum {
    CACHE_LINE = 64,
    SPINS = 2000,                /* looks, 15-40 ns each, before a thread leaves its CPU to others */
    EAGER_LOOKS = 100,           /* one after another */
    UNTIMED_SPINS = 64,          /* looks of a wait that is not worth reading the clock */
    LONG_WAIT = 20 * 1000,       /* looks, some 10 ms, before a thread sleeps: others may be busy with layers that are not
                                    shared, or have a lower priority and need this very CPU */
    NAP = 50 * 1000,             /* ns */
    BREAK_LOSS = 100 * 1000,     /* ns that a call may lose: more than it takes to wake up threads */
    LEAST_LOSS = 5 * 1000,       /* ns that are worth remembering */
    ALONE_PER_LOSS = 20,         /* so much longer calls stay alone: in the long run less than 5 % are lost */
    MOST_ALONE = 1000 * 1000 * 1000, /* ns up to which that time doubles while one loss follows another */
    MOST_LOSS = 500 * 1000 * 1000, /* ns that are remembered: more is a process that was stopped */
    AWAKE_TIME = 1000 * 1000,    /* ns that OpenMP's threads look for work before they sleep, by default some more */
    START_AWAKE = 5 * 1000,      /* ns until a team is at work: measured 1-3 us */
    START_ASLEEP = 80 * 1000     /* measured 50-80 us, on a virtual machine */
};

/* OpenMP's runtime, by the interface that compilers call (GCC's; LLVM's and Intel's libraries have it too). */
typedef struct {
    void (*parallel)(void (*function)(void *), void *data, unsigned threads, unsigned flags);
    int (*thread_num)(void);
    int (*num_threads)(void);
    const char *name;
} openmp_runtime;

/* Weak: a program need not have them. */
extern void *dlopen(const char *, int) __attribute__((weak));
extern void *dlsym(void *restrict, const char *restrict) __attribute__((weak));

/* Of the process. */
static struct {
    openmp_runtime openmp;   /* written once, under the lock; read once is_opened says so */
    atomic_int is_opened, lock;
    pid_t process;           /* that loaded this library */
    atomic_int calls;        /* that use threads, or would */
    atomic_llong alone_until; /* by the monotonic clock */
    atomic_llong last_alone; /* how long it was, the last time */
    atomic_llong last_team;  /* when it ended */
} shared;

static void __attribute__((constructor)) remember_process(void)
{
    shared.process = getpid();
}

static const char *const runtimes[] = {"libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so"};

static int open_runtime(const char *name, int mode)
{
    void *library = dlopen(name, mode | RTLD_NOW | RTLD_NODELETE);
    if (!library)
        return 0;
    /* A pointer to data becomes one to a function: POSIX allows it, ISO C has no way to say it. */
    *(void **)&shared.openmp.parallel = dlsym(library, "GOMP_parallel");
    *(void **)&shared.openmp.thread_num = dlsym(library, "omp_get_thread_num");
    *(void **)&shared.openmp.num_threads = dlsym(library, "omp_get_num_threads");
    if (!shared.openmp.parallel || !shared.openmp.thread_num || !shared.openmp.num_threads)
        return 0;
    shared.openmp.name = name;
    return 1;
}

static int find_interpreter(struct dl_phdr_info *program, size_t size, void *is_found)
{
    (void)size;
    for (int i = 0; i < program->dlpi_phnum; i++)
        *(int *)is_found |= program->dlpi_phdr[i].p_type == PT_INTERP;
    return 1; /* that was the program; the others are libraries */
}

/* A static program stays on one thread: even if it has dlopen, what that loads comes with a libc of its own, whose threads
 * crash. */
static int is_static(void)
{
    int has_interpreter = 0;
    dl_iterate_phdr(find_interpreter, &has_interpreter);
    return !has_interpreter;
}

/* One that the process already has comes first: two of them would not know of each other's threads. */
static void open_any_runtime(void)
{
    enum { RUNTIMES = sizeof runtimes / sizeof *runtimes };
    if (!dlopen || !dlsym || is_static())
        return;
    for (int i = 0; !shared.openmp.name && i < 2 * RUNTIMES; i++)
        if (!open_runtime(runtimes[i % RUNTIMES], i < RUNTIMES ? RTLD_NOLOAD : 0))
            shared.openmp = (openmp_runtime){0};
}

/* A fork may have a copy of a lock that nobody will open again, and has no threads anyway. */
const char *gated_openmp(void)
{
    if (!atomic_load_explicit(&shared.is_opened, memory_order_acquire)) {
        if (getpid() != shared.process)
            return NULL;
        while (atomic_exchange_explicit(&shared.lock, 1, memory_order_acquire))
            sched_yield();
        if (!shared.openmp.name)
            open_any_runtime();
        atomic_store_explicit(&shared.is_opened, 1, memory_order_release);
        atomic_store_explicit(&shared.lock, 0, memory_order_release);
    }
    return shared.openmp.name;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* What a thread tells the others, on a cache line of its own. */
typedef struct {
    _Alignas(CACHE_LINE) atomic_llong arrived; /* twice the number of the meeting it has come to, from `job << 36` on;
                                                  odd: and breaks up there */
    atomic_llong done;                         /* number of the last job it has done; -1: not here yet */
} team_member;

struct gated_team {
    atomic_int is_open;
    int may_break, spins;
    atomic_ullong cpus[CPU_SETSIZE / 64];      /* on which one of us began */
    uint64_t float_mode;
    void (*call)(void *arg, gated_team *team);
    void *arg;
    _Alignas(CACHE_LINE) atomic_llong jobs;    /* handed out so far */
    int count;                                 /* threads of the latest */
    gated_work *work;                          /* NULL: go home */
    void *job;
    team_member members[GATED_MOST_THREADS];
    /* Of thread 0: its time, in ns. */
    _Alignas(CACHE_LINE) int size;
    int breaks_up;
    int is_complete;                           /* all have come */
    int busy;                                  /* threads at work, 0 with it */
    int64_t since;                             /* up to here, */
    int64_t waited;                            /* so much was lost by starting and waiting, */
    int64_t saved;                             /* and so much work done by others */
};

/* Time */

/* The time since the last look goes to what was saved: while thread 0 worked, the others did as much. */
static void count_work(gated_team *team, int64_t time)
{
    team->saved += (team->busy - 1) * (time - team->since);
    team->since = time;
}

static void count_wait(gated_team *team, int64_t time)
{
    team->waited += time - team->since;
    team->since = time;
}

/* The next calls run on one thread for so long that what was lost, where others had our CPUs, does not count. A loss soon
 * after such a time doubles it: there is more going on than one. */
static void remember_loss(const gated_team *team)
{
    const int64_t loss = team->waited - team->saved;
    if (!team->may_break || loss < LEAST_LOSS)
        return;
    const int64_t before = atomic_load_explicit(&shared.alone_until, memory_order_relaxed);
    const int64_t last = atomic_load_explicit(&shared.last_alone, memory_order_relaxed);
    const int64_t doubled = team->since - before < last ? 2 * last : 0;
    const int64_t least = ALONE_PER_LOSS * (loss < MOST_LOSS ? loss : MOST_LOSS);
    const int64_t most = doubled < MOST_ALONE ? doubled : MOST_ALONE;
    const int64_t alone = least > most ? least : most;
    atomic_store_explicit(&shared.last_alone, alone, memory_order_relaxed);
    atomic_store_explicit(&shared.alone_until, team->since + alone, memory_order_relaxed);
}

int gated_team_most(double work, double *start)
{
    const int64_t time = now();
    const int64_t idle = time - atomic_load_explicit(&shared.last_team, memory_order_relaxed);
    *start = idle < AWAKE_TIME ? START_AWAKE : START_ASLEEP;
    if (*start >= work || time < atomic_load_explicit(&shared.alone_until, memory_order_relaxed)
        || getpid() != shared.process)
        return 1;
    return gated_usable_cores() / atomic_load_explicit(&shared.calls, memory_order_relaxed);
}

int gated_threads(void)
{
    return getpid() == shared.process && gated_openmp() ? gated_usable_cores() : 1;
}

void gated_team_count_calls(int more)
{
    atomic_fetch_add_explicit(&shared.calls, more, memory_order_relaxed);
}

/* Waiting */

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Whether all threads have come, as thread 0 asks. */
static int is_complete(gated_team *team)
{
    for (int i = 1; !team->is_complete && i < team->size; i++)
        if (atomic_load_explicit(&team->members[i].done, memory_order_relaxed) < 0)
            return 0;
    return team->is_complete = 1;
}

/* A thread that has not come may be waiting for this very CPU: see move_away. */
void gated_wait_pause(gated_wait *wait)
{
    gated_team *team = wait->team;
    if (++wait->looks == UNTIMED_SPINS && wait->index == 0)
        count_work(team, now());
    const int spins = wait->index > 0 || is_complete(team) ? team->spins : 0;
    if (wait->looks < spins)
        relax();
    else if (wait->looks < LONG_WAIT)
        sched_yield();
    else
        nanosleep(&(struct timespec){0, NAP}, NULL);
}

void gated_wait_end(const gated_wait *wait)
{
    gated_team *team = wait->team;
    if (wait->index > 0 || wait->looks < UNTIMED_SPINS)
        return;
    count_wait(team, now());
    team->breaks_up |= team->may_break && team->waited - team->saved > BREAK_LOSS;
}

static void wait_for(gated_team *team, int index, const atomic_llong *count, int64_t least)
{
    for (int i = 0; i < EAGER_LOOKS; i++)
        if (atomic_load_explicit(count, memory_order_acquire) >= least)
            return;
    gated_wait wait = {team, index, 0};
    while (atomic_load_explicit(count, memory_order_acquire) < least)
        gated_wait_pause(&wait);
    gated_wait_end(&wait);
}

/* Thread 0 no longer counts on the others. */
static void go_on_alone(gated_team *team)
{
    count_work(team, now());
    team->busy = 1;
}

int gated_team_breaks_up(gated_team *team)
{
    if (team->breaks_up && team->busy > 1)
        go_on_alone(team);
    return team->breaks_up;
}

gated_company gated_team_meet(gated_team *team, int index, int count)
{
    atomic_llong *arrived = &team->members[index].arrived;
    const int64_t number = atomic_load_explicit(arrived, memory_order_relaxed) + 2;
    const int breaks_up = index == 0 && team->breaks_up;
    atomic_store_explicit(arrived, number + breaks_up, memory_order_release);
    for (int i = 0; i < count; i++)
        if (i != index && atomic_load_explicit(&team->members[i].arrived, memory_order_acquire) < number)
            wait_for(team, index, &team->members[i].arrived, number);
    if (breaks_up) {
        go_on_alone(team);
        return GATED_ALONE;
    }
    const int is_dismissed = index && atomic_load_explicit(&team->members[0].arrived, memory_order_relaxed) == number + 1;
    return is_dismissed ? GATED_DISMISSED : GATED_TOGETHER;
}

/* Jobs */

static void begin_job(team_member *member, int64_t number)
{
    atomic_store_explicit(&member->arrived, number << 36, memory_order_relaxed);
}

static int64_t hand_out(gated_team *team, int count, gated_work *work, void *job)
{
    team->count = count;
    team->work = work;
    team->job = job;
    return 1 + atomic_fetch_add_explicit(&team->jobs, 1, memory_order_release);
}

static void wait_until_done(gated_team *team, int64_t number)
{
    for (int i = 1; i < team->size; i++)
        wait_for(team, 0, &team->members[i].done, number);
}

static void send_home(gated_team *team)
{
    wait_until_done(team, hand_out(team, 0, NULL, NULL));
    team->size = 1;
}

int gated_team_size(const gated_team *team)
{
    return team ? team->size : 1;
}

int gated_team_is_told(const gated_team *team)
{
    return team && !team->may_break;
}

void gated_team_do(gated_team *team, int count, gated_work *work, void *job)
{
    if (count <= 1 || gated_team_size(team) <= 1) {
        work(job, 0, 1);
        return;
    }
    count = count < team->size ? count : team->size;
    count_work(team, now());
    team->busy = count;
    const int64_t number = hand_out(team, count, work, job);
    begin_job(&team->members[0], number);
    work(job, 0, count);
    wait_until_done(team, number);
    go_on_alone(team);
    if (team->breaks_up)
        send_home(team);
}

/* Marks the calling thread's CPU; whether another one of the team began there. */
static int mark_cpu(gated_team *team)
{
    const int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return 0;
    const unsigned long long bit = 1ull << cpu % 64;
    return (atomic_fetch_or_explicit(&team->cpus[cpu / 64], bit, memory_order_relaxed) & bit) != 0;
}

/* The kernel likes to wake a thread where its waker runs, and may then take milliseconds to find it a CPU of its own: so it
 * goes to one that is not taken, if it may run there, by a change of its affinity that is undone at once. */
static void move_away(gated_team *team)
{
    cpu_set_t own, free;
    if (!mark_cpu(team) || sched_getaffinity(0, sizeof own, &own) != 0)
        return;
    free = own;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (atomic_load_explicit(&team->cpus[cpu / 64], memory_order_relaxed) >> cpu % 64 & 1)
            CPU_CLR(cpu, &free);
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0)
        return;
    (void)mark_cpu(team);
    (void)sched_setaffinity(0, sizeof own, &own);
}

static void serve(gated_team *team, int index)
{
    team_member *self = &team->members[index];
    gated_work *work;
    int64_t number = 0;
    move_away(team);
    atomic_store_explicit(&self->done, 0, memory_order_release);
    do {
        wait_for(team, index, &team->jobs, ++number);
        work = team->work;
        begin_job(self, number);
        if (index < team->count)
            work(team->job, index, team->count);
        atomic_store_explicit(&self->done, number, memory_order_release);
    } while (work);
}

/* Every thread of the region. */
static void take_part(void *data)
{
    gated_team *team = data;
    (void)atomic_load_explicit(&team->is_open, memory_order_acquire);
    const int index = shared.openmp.thread_num();
    if (index > 0) {
        const uint64_t mode = float_mode();
        set_float_mode(team->float_mode);
        serve(team, index);
        set_float_mode(mode);
        return;
    }
    team->size = shared.openmp.num_threads();
    count_wait(team, now());
    team->call(team->arg, team);
    count_work(team, now());
    if (team->size > 1)
        send_home(team);
}

void gated_team_run(int threads, int may_break, void (*call)(void *arg, gated_team *team), void *arg)
{
    if (threads < 2 || getpid() != shared.process || !gated_openmp()) {
        call(arg, NULL);
        return;
    }
    threads = threads < GATED_MOST_THREADS ? threads : GATED_MOST_THREADS;
    gated_team team;
    atomic_init(&team.jobs, 0);
    for (int i = 0; i < threads; i++) {
        atomic_store_explicit(&team.members[i].arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team.members[i].done, -1, memory_order_relaxed);
    }
    for (int i = 0; i < CPU_SETSIZE / 64; i++)
        atomic_store_explicit(&team.cpus[i], 0, memory_order_relaxed);
    (void)mark_cpu(&team);
    team.may_break = may_break;
    team.spins = threads <= gated_usable_cpus() ? SPINS : UNTIMED_SPINS;
    team.float_mode = float_mode();
    team.call = call;
    team.arg = arg;
    team.size = team.busy = 1;
    team.breaks_up = team.is_complete = 0;
    team.waited = team.saved = 0;
    team.since = now();
    atomic_store_explicit(&team.is_open, 1, memory_order_release);
    shared.openmp.parallel(take_part, &team, threads, 0);
    count_wait(&team, now());
    remember_loss(&team);
    atomic_store_explicit(&shared.last_team, team.since, memory_order_relaxed);
}
