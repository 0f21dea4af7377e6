/* The threads of one call.
 *
 * gated_team_run opens one parallel region of OpenMP, whose runtime is looked for by name the first time that a call wants
 * more than one thread: the library needs libc only. The caller's thread, index 0, runs the call; the others wait for the
 * jobs it hands out, and for each other within a job, by flags of our own: OpenMP's barrier takes 0.25 us, this 0.05 to 0.1.
 * A team of NULL is the calling thread alone, as is a team that was told to break up.
 */
#ifndef GATED_TEAM_H
#define GATED_TEAM_H

#include <stdint.h>

enum { GATED_MOST_THREADS = 64 };

typedef struct gated_team gated_team;

/* A job's part of thread `index` of `count`. */
typedef void gated_work(void *job, int index, int count);

/* call(arg, team) on a team of `threads`, or of fewer if there are no more to be had. With `may_break` the call goes on
 * alone once others only hold it up. */
void gated_team_run(int threads, int may_break, void (*call)(void *arg, gated_team *team), void *arg);

/* Of the calling thread and those that wait for its jobs; and whether it may not break up. */
int gated_team_size(const gated_team *team);
int gated_team_is_told(const gated_team *team);

/* Runs a job on `count` of the team and returns when all of them are done. */
void gated_team_do(gated_team *team, int count, gated_work *work, void *job);

/* Waits for the other threads of a job. GATED_ALONE: the job is from here on that of thread 0 alone; GATED_DISMISSED: the
 * same, for the others. */
typedef enum { GATED_TOGETHER, GATED_ALONE, GATED_DISMISSED } gated_company;

gated_company gated_team_meet(gated_team *team, int index, int count);

/* A wait of thread `index` for what others do within a job: look, pause, look, ..., and end. */
typedef struct {
    gated_team *team;
    int index;
    int64_t looks;
} gated_wait;

void gated_wait_pause(gated_wait *wait);
void gated_wait_end(const gated_wait *wait);

/* Whether thread 0, which asks, has lost so much by waiting that it does better alone: then it does the rest of the job. */
int gated_team_breaks_up(gated_team *team);

/* 1 when a long call begins, -1 when it ends: CPUs are shared by the calls that run at once. */
void gated_team_count_calls(int more);

/* How many threads may share such a call that leaves their number to us, and in how many ns they are at work: 1 if that is
 * longer than its `work`. */
int gated_team_most(double work, double *start);

/* cpus.c: CPUs that the calling thread may run on; and cores that it may keep busy: siblings are one, and a cgroup's quota
 * and OMP_NUM_THREADS are limits. Both at least 1. */
int gated_usable_cpus(void);
int gated_usable_cores(void);

#endif
