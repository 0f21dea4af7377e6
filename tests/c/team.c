/* The threads of a call by themselves: `team PART`. Prints what went wrong. */
#define _POSIX_C_SOURCE 200809L
#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { THREADS = 2, MEETINGS = 300 };

static gated_team *current;
static int64_t seen[THREADS], step[THREADS];
static int failed;

static void expect(int truth, const char *what)
{
    if (!truth)
        printf("%s\n", what);
    failed |= !truth;
}

static void pause_ms(int ms)
{
    const struct timespec time = {0, ms * 1000000L};
    nanosleep(&time, NULL);
}

/* Each reads what the other wrote before they met. */
static void count_together(void *job, int index, int count)
{
    (void)job;
    for (int64_t i = 1; i <= MEETINGS && count == THREADS; i++) {
        step[index] = i;
        if (gated_team_meet(current, index, count) != GATED_TOGETHER)
            return;
        seen[index] += step[1 - index] == i;
        if (gated_team_meet(current, index, count) != GATED_TOGETHER)
            return;
    }
}

static void meet(void *arg, gated_team *team)
{
    (void)arg;
    current = team;
    for (int job = 0; job < 3; job++) {
        seen[0] = seen[1] = 0;
        gated_team_do(team, THREADS, count_together, NULL);
        expect(seen[0] == MEETINGS && seen[1] == MEETINGS, "a thread did not see what another had written");
    }
}

static void expect_alone(void *arg, gated_team *team)
{
    (void)arg;
    expect(gated_team_size(team) == 1, "there is more than one thread");
    gated_team_do(team, THREADS, count_together, NULL);
}

/* Thread 1 is late by so many ms, again and again, until it is dismissed. */
static void come_late(void *job, int index, int count)
{
    gated_company *last = job;
    for (int i = 0; i < 20; i++) {
        if (index == 1)
            pause_ms(1);
        const gated_company company = gated_team_meet(current, index, count);
        last[index] = company;
        if (company != GATED_TOGETHER)
            return;
    }
}

static void lose(void *arg, gated_team *team)
{
    current = team;
    gated_team_do(team, THREADS, come_late, arg);
}

/* With and without leave to break up. */
static void run_late(int may_break)
{
    gated_company last[THREADS] = {GATED_TOGETHER, GATED_TOGETHER};
    double start;
    gated_team_count_calls(1);
    expect(gated_team_most(1e9, &start) >= THREADS, "not enough CPUs before");
    gated_team_run(THREADS, may_break, lose, last);
    if (may_break) {
        expect(last[0] == GATED_ALONE && last[1] == GATED_DISMISSED, "a team that loses stays together");
        expect(gated_team_most(1e9, &start) == 1, "a loss is not remembered");
        for (int i = 0; i < 150 && gated_team_most(1e9, &start) == 1; i++)
            pause_ms(100);
        expect(gated_team_most(1e9, &start) >= THREADS, "a loss is never forgotten");
    } else {
        expect(last[0] == GATED_TOGETHER && last[1] == GATED_TOGETHER, "a team breaks up that may not");
    }
    gated_team_count_calls(-1);
}

static void compare_mode(void *job, int index, int count)
{
    uint64_t *modes = job;
    (void)count;
    modes[index] = float_mode() & ~(uint64_t)0x3f; /* without the flags of x86 */
}

static void collect_modes(void *arg, gated_team *team)
{
    gated_team_do(team, THREADS, compare_mode, arg);
}

static void check_modes(void)
{
    uint64_t modes[THREADS] = {1, 2};
    const uint64_t own = float_mode();
    set_float_mode(own | FLUSH_SUBNORMALS);
    gated_team_run(THREADS, 0, collect_modes, modes);
    expect(modes[0] == modes[1] && (modes[0] & FLUSH_SUBNORMALS) == FLUSH_SUBNORMALS, "modes differ");
    set_float_mode(own);
    gated_team_run(THREADS, 0, collect_modes, modes);
    expect(modes[0] == modes[1] && !(modes[1] & FLUSH_SUBNORMALS), "a mode stays");
}

static double cpu_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

static void read_cpu_time(void *job, int index, int count)
{
    (void)count;
    if (index == 1)
        *(double *)job = cpu_ms();
}

/* Thread 1 has nothing to do for half a second. */
static void keep_waiting(void *arg, gated_team *team)
{
    double times[2] = {0};
    (void)arg;
    gated_team_do(team, THREADS, read_cpu_time, &times[0]);
    pause_ms(500);
    gated_team_do(team, THREADS, read_cpu_time, &times[1]);
    expect(times[1] - times[0] < 250, "a thread keeps its CPU busy while it waits");
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    if (!strcmp(part, "meets"))
        gated_team_run(THREADS, 0, meet, NULL);
    else if (!strcmp(part, "breaks_up"))
        run_late(1);
    else if (!strcmp(part, "told"))
        run_late(0);
    else if (!strcmp(part, "waits"))
        gated_team_run(THREADS, 0, keep_waiting, NULL);
    else if (!strcmp(part, "alone"))
        gated_team_run(THREADS, 0, expect_alone, NULL);
    else if (!strcmp(part, "mode"))
        check_modes();
    else if (!strcmp(part, "nested")) {
#pragma omp parallel num_threads(2)
        gated_team_run(THREADS, 0, expect_alone, NULL);
    } else
        return 2;
    return failed;
}
