/* Policies of scheduling with everything that can be set, and what children have of it; membarrier; clocks that wake machines. */
#include "calls.h"
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

enum { RESET = 0x40000000, GET = 512 };

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t times[3];
    uint32_t clamp[2];
};

/* What is told of a thread that never asked for another runtime: it depends on the machine. */
static uint64_t usual;

/* In hundredths of a second, so that the machine's ticks do not matter. */
static long slice_of(int id) {
    struct timespec slice = {9, 9};
    long done = CALL(sched_rr_get_interval, id, &slice);
    return done ? done : (slice.tv_sec * 1000000000 + slice.tv_nsec + 5000000) / 10000000;
}

static void show(const char *when) {
    struct attributes a = {0};
    int priority = 9;
    long got = CALL(sched_getattr, 0, &a, sizeof a, 0), known = CALL(sched_getparam, 0, &priority);
    printf("%s: policy %lx, priority %d (%ld), %ld: size %u policy %u flags %lx nice %d priority %u", when, CALL(sched_getscheduler, 0), priority, known,
           got, a.size, a.policy, (long)a.flags, a.nice, a.priority);
    printf(", nice %ld, slice %ld, runtime %ld, slack %ld\n", CALL(getpriority, PRIO_PROCESS, 0), slice_of(0), a.times[0] == usual ? 1 : (long)a.times[0],
           CALL(prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0));
}

static void *thread(void *unused) {
    show("  thread");
    return unused;
}

static void inherited(void) {
    pthread_t id;
    fflush(stdout);
    if (fork() == 0) {
        show("  child");
        exit(0);
    }
    wait(NULL);
    pthread_create(&id, NULL, thread, NULL), pthread_join(id, NULL);
}

static void plain(void) {
    int none = 0;
    CALL(sched_setscheduler, 0, 0, &none), setpriority(PRIO_PROCESS, 0, 0);
}

static void policies(void) {
    static const int priorities[] = {0, 1, 99, 100, -1};
    for (int policy = -1; policy < 6; policy++)
        for (int i = 0; i < 5; i++)
            for (int reset = 0; reset < 2; reset++) {
                /* With deadlines there is more to say. */
                long done = policy == 4 ? 0 : CALL(sched_setscheduler, 0, policy | (reset ? RESET : 0), &priorities[i]);
                printf("policy %d, priority %d, reset %d: %ld, other priority %ld %ld\n", policy, priorities[i], reset, done, CALL(sched_setparam, 0, &priorities[1]),
                       CALL(sched_setparam, 0, &priorities[0]));
                show("  now");
                if (done == 0 && policy != 4)
                    inherited();
                plain();
            }
    for (int nice = -5; nice <= 5; nice += 10) {
        setpriority(PRIO_PROCESS, 0, nice), ONE("reset", CALL(sched_setscheduler, 0, RESET, (int[]){0})), show("nice"), inherited(), plain();
    }
    ONE("nobody", CALL(sched_setscheduler, 4000000, 0, (int[]){0})), ONE("negative", CALL(sched_setscheduler, -1, 0, (int[]){0}));
    ONE("NULL", CALL(sched_setscheduler, 0, 0, NULL)), ONE("hole", CALL(sched_setscheduler, 0, 0, hole));
    for (int policy = -1; policy < 9; policy++)
        printf("%d: from %ld to %ld\n", policy, CALL(sched_get_priority_min, policy), CALL(sched_get_priority_max, policy));
}

/* Of real-time threads timers have no slack. */
static void slacks(void) {
    ONE("slack", CALL(prctl, PR_SET_TIMERSLACK, 7)), show("7"), inherited();
    for (int reset = 0; reset < 2; reset++) {
        CALL(sched_setscheduler, 0, SCHED_FIFO | (reset ? RESET : 0), (int[]){3}), show("fifo"), ONE("slack", CALL(prctl, PR_SET_TIMERSLACK, 9)), show("set there");
        fflush(stdout);
        if (fork() == 0)
            show("  child"), plain(), show("  back"), exit(0);
        wait(NULL), plain(), show("back");
    }
    ONE("negative", CALL(prctl, PR_SET_TIMERSLACK, -1L)), show("largest"), ONE("none", CALL(prctl, PR_SET_TIMERSLACK, 0L)), show("usual");
}

static void set(const char *what, struct attributes a) {
    long done = CALL(sched_setattr, 0, &a, 0);
    printf("%s: %ld, size %u\n", what, done, a.size);
    show("  now");
}

static void attributes(void) {
    struct attributes a = {.size = 56, .policy = SCHED_BATCH, .nice = 7};
    set("batch", a), a.nice = 50, set("nice 50", a), a.nice = -50, set("nice -50", a), a.policy = SCHED_IDLE, a.nice = 3, set("idle", a);
    a.policy = SCHED_FIFO, a.priority = 7, set("priority", a), a.flags = 1, set("reset", a);
    for (int i = 1; i < 12; i++) {
        char text[30];
        sprintf(text, "flag %x", 1 << i);
        a = (struct attributes){.size = 56, .policy = SCHED_BATCH, .flags = 1 << i, .nice = 2}, set(text, a);
        a.size = 48, a.policy = SCHED_FIFO, set("  first size", a);
        a.size = 56, a.priority = 3, set("  priority", a), plain();
    }
    static const uint64_t runtimes[] = {20000000, 1, 99999, 100001, 100000001, 1ull << 63, -1ull};
    for (int i = 0; i < 7; i++)
        a = (struct attributes){.size = 56, .times = {runtimes[i], 5, 6}}, set("runtime", a), inherited();
    a.times[0] = 40000000, a.policy = SCHED_IDLE, set("idle", a), a.policy = SCHED_BATCH, a.flags = 1, set("reset", a), inherited(), a.flags = 16, a.times[0] = 20000000;
    set("keep all", a), a.flags = 8, set("keep the policy", a), a.flags = 0, a.policy = SCHED_RR, a.priority = 3, set("round robin", a), plain(), show("plain");
    setpriority(PRIO_PROCESS, 0, 3), show("nice"), a.policy = a.priority = a.times[0] = 0, set("usual again", a), plain();
    a = (struct attributes){.size = 56, .policy = 1u << 31}, set("negative", a), a.policy = 6, set("unknown", a), a.policy = 0, a.priority = 1u << 31, set("far", a);
    a = (struct attributes){.size = 0, .policy = SCHED_BATCH}, set("size 0", a), a.policy = 0;
    for (int size = 47; size <= 49; size++)
        a.size = size, set("size", a);
    a.size = 5000, set("size 5000", a);
    memset(page, 0, 4096), *(int *)page = 4096, ONE("a page", CALL(sched_setattr, 0, page, 0)), page[4095] = 1, ONE("not zero", CALL(sched_setattr, 0, page, 0));
    ONE("says", *(int *)page), *(int *)(hole - 52) = 56, ONE("cut off", CALL(sched_setattr, 0, hole - 52, 0));
    ONE("NULL", CALL(sched_setattr, 0, NULL, 0)), ONE("flags", CALL(sched_setattr, 0, page, 1)), ONE("nobody", CALL(sched_setattr, 4000000, &a, 0));
    a.size = 56, ONE("nobody", CALL(sched_setattr, 4000000, &a, 0)), ONE("negative", CALL(sched_setattr, -1, &a, 0));
    static const int sizes[] = {0, 47, 48, 49, 56, 57, 4096, 4097};
    for (int i = 0; i < 8; i++) {
        memset(page, 9, 4096);
        printf("get %d: %ld", sizes[i], CALL(sched_getattr, 0, page, sizes[i], 0)), printf(" %d %d %d\n", *(int *)page, page[56], page[4095]);
    }
    for (int size = 56; size < 70; size += 4)
        memset(page, 9, 4096), printf("get, cut off at %d: %ld", size, CALL(sched_getattr, 0, hole - 60, size, 0)), printf(" %d\n", *(int *)(hole - 60));
    char *fixed = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *nowhere = (char *)4096;
    static const unsigned bad[] = {1, 47, 57, 4096, 4097};
    for (int i = 0; i < 5; i++) {
        MUST(mprotect(fixed, 4096, PROT_READ | PROT_WRITE)), memset(fixed, 9, 4096), *(unsigned *)fixed = bad[i], MUST(mprotect(fixed, 4096, PROT_READ));
        printf("size %u, read only: %ld\n", bad[i], CALL(sched_setattr, 0, fixed, 0));
    }
    munmap(fixed, 4096);
    for (int who = -1; who < 1; who++)
        for (int policy = -1; policy < 2; policy++)
            printf("%d, policy %d, nowhere: %ld %ld %ld %ld\n", who, policy, CALL(sched_setscheduler, who, policy, nowhere), CALL(sched_setparam, who, nowhere),
                   CALL(sched_getparam, who, nowhere), CALL(sched_rr_get_interval, who, nowhere));
    ONE("get NULL", CALL(sched_getattr, 0, NULL, 56, 0)), ONE("get, flags", CALL(sched_getattr, 0, page, 56, 1));
    ONE("get, hole", CALL(sched_getattr, 0, hole, 56, 0)), ONE("get, nobody", CALL(sched_getattr, 4000000, page, 56, 0));
    ONE("get, negative", CALL(sched_getattr, -1, page, 56, 0));
    plain();
}

/* What is about restartable sequences depends on whether there are any. */
static void barriers(void) {
    static const int registers[] = {0, 4, 16, 64};
    for (int i = 0; i < 4; i++) {
        fflush(stdout);
        if (fork() == 0) {
            ONE("register", registers[i] ? CALL(membarrier, registers[i], 0, 0) : 0), ONE("registered", CALL(membarrier, GET, 0, 0));
            for (int command = 1; command < 1024; command *= 2)
                if (command != 128 && command != 256 && command != GET && !(command & 84))
                    printf("membarrier %d: %ld, with flags %ld %ld\n", command, CALL(membarrier, command, 0, 0), CALL(membarrier, command, 1, 0),
                           CALL(membarrier, command, 2, 0));
            fflush(stdout);
            if (fork() == 0)
                ONE("child", CALL(membarrier, GET, 0, 0)), exit(0);
            wait(NULL);
            execl("/proc/self/exe", "barriers", NULL);
        }
        wait(NULL);
    }
    printf("known %lx, unknown %ld %ld %ld, flags %ld\n", CALL(membarrier, 0, 0, 0) & ~0x180, CALL(membarrier, 3, 0, 0), CALL(membarrier, 1024, 0, 0),
           CALL(membarrier, -1, 0, 0), CALL(membarrier, 0, 1, 0));
}

/* Where no clock can wake the machine, those that could be set for it cannot be used; a timer's descriptor only keeps its word. */
static void clocks(void) {
    struct timespec t = {1, 0};
    int id;
    if (CALL(timer_create, CLOCK_BOOTTIME_ALARM, 0, &id) != -EOPNOTSUPP)
        return (void)puts("this machine has one");
    for (int clock = 8; clock < 10; clock++) {
        printf("clock %d: %ld %ld, sleep %ld %ld, timer %ld, descriptor %ld\n", clock, CALL(clock_gettime, clock, &t), CALL(clock_getres, clock, &t),
               CALL(clock_nanosleep, clock, 0, &t, 0), CALL(clock_nanosleep, clock, 1, &t, 0), CALL(timer_create, clock, 0, &id),
               dup_close(CALL(timerfd_create, clock, 0)));
    }
    static const struct timespec bad[] = {{1, -1}, {1, 1000000000}, {-1, 0}, {1L << 62, 0}};
    static const struct timeval worse[] = {{1, -1}, {1, 1000000}, {1, 1000001}, {-1, 0}, {1L << 62, 0}};
    /* Never one that could be set: that would be the host's. */
    for (int i = 0; i < 4; i++)
        printf("set to what is none: %ld, a count %ld\n", CALL(clock_settime, 0, &bad[i]), CALL(clock_settime, -2, &bad[i]));
    for (int i = 0; i < 5; i++)
        printf("of the day: %ld, %ld\n", CALL(settimeofday, &worse[i], NULL), CALL(settimeofday, &worse[i], hole));
    ONE("of the day, hole", CALL(settimeofday, hole, NULL)), ONE("zone, hole", CALL(settimeofday, NULL, hole));
    for (int clock = -9; clock < 13; clock++)
        if (clock)
            printf("set clock %d: %ld, NULL %ld\n", clock, CALL(clock_settime, clock, &t), CALL(clock_settime, clock, NULL));
}

int main(int argc, char **argv) {
    /* Whatever the caller's is. */
    setpriority(PRIO_PROCESS, 0, 0);
    if (argc == 1 && !strcmp(argv[0], "barriers"))
        return ONE("a new program", CALL(membarrier, GET, 0, 0)), 0;
    begin();
    struct attributes a = {0};
    MUST(CALL(sched_getattr, 0, &a, sizeof a, 0)), usual = a.times[0];
    policies();
    slacks();
    attributes();
    barriers();
    clocks();
    end();
    return 0;
}
