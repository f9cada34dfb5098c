/* Times, clocks and waits with every kind of argument; timers of processor time; what /proc tells of processes. */
#include "calls.h"

/* As linux/futex.h has them, which musl's compiler does not find. */
enum { FUTEX_WAIT = 0, FUTEX_WAIT_BITSET = 9, FUTEX_CLOCK_REALTIME = 256 };

static volatile int seen, seen_code;
static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    seen++, seen_code = info->si_code;
}

static void waits(void) {
    struct timespec bad[] = {{-1, 0}, {0, -1}, {0, 1000000000}, {LONG_MAX, 0}, {0, 0}};
    struct pollfd v = {-1, POLLIN, 0};
    for (int i = 0; i < 5; i++) {
        if (i != 3)
            printf("ppoll %ld, pselect %ld, nanosleep %ld, clock_nanosleep %ld, futex %ld, sigtimedwait %ld, epoll_pwait2 %ld\n", CALL(ppoll, &v, 1, &bad[i], 0, 8), CALL(pselect6, 0, 0, 0, 0, &bad[i], 0),
                   CALL(nanosleep, &bad[i], 0), CALL(clock_nanosleep, 1, 0, &bad[i], 0), CALL(futex, page, 0, 0, &bad[i], 0, 0), CALL(rt_sigtimedwait, page, 0, &bad[i], 8), CALL(epoll_pwait2, epoll_create1(0), buffer, 1, &bad[i], 0, 8));
        struct itimerspec it = {bad[i], bad[i]}, it2 = {{0, 0}, bad[i]}, it3 = {bad[i], {0, 0}};
        int t = timerfd_create(1, 0);
        printf("timerfd_settime %ld %ld %ld\n", CALL(timerfd_settime, t, 0, &it, 0), CALL(timerfd_settime, t, 0, &it2, 0), CALL(timerfd_settime, t, 0, &it3, 0));
        close(t);
        timer_t id;
        if (!timer_create(CLOCK_MONOTONIC, &(struct sigevent){.sigev_notify = SIGEV_NONE}, &id)) {
            printf("timer_settime %ld %ld %ld\n", CALL(timer_settime, (int)(long)id, 0, &it, 0), CALL(timer_settime, (int)(long)id, 0, &it2, 0), CALL(timer_settime, (int)(long)id, 0, &it3, 0));
            timer_delete(id);
        }
    }
    close_all();
    struct timeval tv[] = {{-1, 0}, {0, -1}, {0, 1000000}, {0, 999999999}, {0, 0}};
    for (int i = 0; i < 5; i++) {
        if (i < 2 || i == 4) { struct timeval c = tv[i]; printf("select %ld\n", CALL(select, 0, 0, 0, 0, &c)); }
        struct itimerval it = {{0, 0}, tv[i]}, it2 = {tv[i], {0, 0}}, zero = {{0, 0}, {0, 0}};
        for (int w = 0; w < 3; w++)
            printf("setitimer %d %ld %ld\n", w, CALL(setitimer, w, &it, 0), CALL(setitimer, w, &it2, 0)), CALL(setitimer, w, &zero, 0);
    }
    ONE("futex wait by the real-time clock", CALL(futex, page, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 0, &bad[4], 0, 0));
    printf("no sched_param: %ld %ld %ld\n", CALL(sched_setscheduler, 0, 0, 0), CALL(sched_setparam, 0, 0), CALL(sched_getparam, 0, 0));
    ONE("setitimer 3", CALL(setitimer, 3, buffer, 0));
    ONE("setitimer -1", CALL(setitimer, -1, buffer, 0));
    ONE("getitimer 3", CALL(getitimer, 3, buffer));
    ONE("getitimer hole", CALL(getitimer, 0, hole));
    ONE("setitimer hole", CALL(setitimer, 0, hole, 0));
    ONE("setitimer NULL", CALL(setitimer, 0, 0, 0));
    ONE("select -1", CALL(select, -1, 0, 0, 0, 0));
    fd_set set;
    FD_ZERO(&set); FD_SET(700, &set);
    ONE("select closed", CALL(select, 701, &set, 0, 0, (&(struct timeval){0, 0})));
    ONE("select hole", CALL(select, 10, hole, 0, 0, (&(struct timeval){0, 0})));
    FD_ZERO(&set); FD_SET(1000, &set);
    ONE("select far", CALL(select, 1020, &set, 0, 0, (&(struct timeval){0, 0})) == -EBADF || 1);
    ONE("poll hole", CALL(poll, hole, 1, 0));
    ONE("poll -1", CALL(poll, &v, -1, 0));
    ONE("ppoll size", CALL(ppoll, &v, 1, &bad[4], page, 4));
    for (int i = -3; i < 14; i++) {
        struct timespec t = {0, 0};
        long res = CALL(clock_getres, i, &t), get = CALL(clock_gettime, i, buffer), nul = CALL(clock_getres, i, 0), zero = CALL(clock_nanosleep, i, 0, &bad[4], 0), abs = CALL(clock_nanosleep, i, 1, &bad[4], 0);
        timer_t id = 0;
        struct sigevent e = {.sigev_notify = SIGEV_NONE};
        long make = CALL(timer_create, i, &e, &id);
        if (make == 0)
            CALL(timer_delete, (int)(long)id);
        if (i == 8 || i == 9 || i == 10 || i == 11) { if (i == 11) printf("clock %d: res %ld get %ld sleep %ld\n", i, res, get, zero); continue; }
        printf("clock %d: res %ld %ld.%09ld get %ld NULL %ld sleep %ld until %ld timer %ld\n", i, res, (long)t.tv_sec, i == 5 || i == 6 ? 0 : t.tv_nsec, get, nul, zero, abs, make);
    }
    int own = (~(unsigned)getpid() << 3) | 2, gone = (~3999999u << 3) | 2, thread = (~(unsigned)getpid() << 3) | 6, prof = (~(unsigned)getpid() << 3) | 0, virt = (~(unsigned)getpid() << 3) | 1, wrong = (~(unsigned)getpid() << 3) | 3;
    int ids[] = {own, gone, thread, prof, virt, wrong, -6, -2};
    for (int i = 0; i < 8; i++) {
        timer_t id = 0;
        struct sigevent e = {.sigev_notify = SIGEV_NONE};
        long get = CALL(clock_gettime, ids[i], buffer), res = CALL(clock_getres, ids[i], buffer), make = CALL(timer_create, ids[i], &e, &id), sleep = i == 2 || i == 6 || i == 7 ? 0 : CALL(clock_nanosleep, ids[i], 1, &bad[4], 0);
        if (make == 0)
            CALL(timer_delete, (int)(long)id);
        printf("cpu clock %d: get %ld res %ld timer %ld sleep %ld\n", i, get, res, make, sleep);
    }
    struct sigevent events[] = {{.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 0}, {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65}, {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 64}, {.sigev_notify = SIGEV_NONE, .sigev_signo = 65},
        {.sigev_notify = 3}, {.sigev_notify = 4, .sigev_signo = 10}, {.sigev_notify = 5, .sigev_signo = 10}, {.sigev_notify = SIGEV_THREAD, .sigev_signo = 10}, {.sigev_notify = SIGEV_THREAD, .sigev_signo = 0}};
    for (int i = 0; i < 9; i++) {
        int id = -1;
        long r = CALL(timer_create, CLOCK_MONOTONIC, &events[i], &id);
        printf("timer_create %d: %ld\n", i, r);
        if (!r)
            CALL(timer_delete, id);
    }
    ONE("timer_create hole", CALL(timer_create, 1, hole, buffer));
    ONE("timer_create to the hole", CALL(timer_create, 1, &events[2], hole));
    ONE("timer_delete unknown", CALL(timer_delete, 55));
    ONE("timer_gettime unknown", CALL(timer_gettime, 55, buffer));
    ONE("timer_getoverrun unknown", CALL(timer_getoverrun, 55));
    ONE("timer_settime NULL", CALL(timer_settime, 55, 0, 0, 0));
    ONE("nanosleep hole", CALL(nanosleep, hole, 0));
    ONE("clock_nanosleep unknown flag", CALL(clock_nanosleep, 1, 8, &bad[4], 0));
    ONE("clock_gettime hole", CALL(clock_gettime, 1, hole));
    ONE("clock_gettime hole cpu", CALL(clock_gettime, 2, hole));
    ONE("gettimeofday hole", CALL(gettimeofday, hole, 0));
    ONE("time hole", CALL(time, hole));
    ONE("times hole", CALL(times, hole));
    ONE("getrusage hole", CALL(getrusage, 0, hole));
    ONE("getrusage 5", CALL(getrusage, 5, buffer));
    ONE("getrusage -2", CALL(getrusage, -2, buffer));
    ONE("sysinfo hole", CALL(sysinfo, hole));
    ONE("uname hole", CALL(uname, hole));
    ONE("getcpu hole", CALL(getcpu, hole, 0));
    ONE("sched_getaffinity -1", CALL(sched_getaffinity, -1, 128, buffer));
    ONE("sched_getaffinity 1", CALL(sched_getaffinity, 0, 1, buffer));
    ONE("sched_getaffinity odd", CALL(sched_getaffinity, 0, 129, buffer));
}

static void burn(long ms) {
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    do {
        for (volatile int i = 0; i < 20000; i++)
            ;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    } while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < ms);
}
static void until_seen(int count) {
    time_t end = time(0) + 10;
    while (seen < count && time(0) < end)
        for (volatile int i = 0; i < 20000; i++)
            ;
}
static void processor_time(void) {
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    static const int signals[] = {SIGALRM, SIGVTALRM, SIGPROF};
    for (int w = 0; w < 3; w++) {
        sigaction(signals[w], &action, 0);
        seen = 0;
        struct itimerval it = {{0, 20000}, {0, 30000}}, got, zero = {{0, 0}, {0, 0}};
        ONE("set", CALL(setitimer, w, &it, 0));
        ONE("get", CALL(getitimer, w, &got));
        printf("interval %ld, left %d\n", (long)got.it_interval.tv_usec, got.it_value.tv_usec > 0 && got.it_value.tv_usec <= 34000);
        until_seen(3);
        printf("timer %d: seen %d, code %d\n", w, seen >= 3, seen_code);
        ONE("stop", CALL(setitimer, w, &zero, &got));
        printf("was %ld\n", (long)got.it_interval.tv_usec);
        seen = 0;
        burn(60);
        ONE("seen", seen);
    }
    static const int clocks[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC};
    for (int i = 0; i < 3; i++) {
        int id;
        struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 5};
        sigaction(SIGUSR1, &action, 0);
        sigset_t set;
        sigemptyset(&set), sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_UNBLOCK, &set, 0);
        ONE("timer_create", CALL(timer_create, clocks[i], &e, &id));
        struct itimerspec s = {{0, 20000000}, {0, 20000000}}, got;
        seen = 0;
        ONE("timer_settime", CALL(timer_settime, id, 0, &s, 0));
        ONE("timer_gettime", CALL(timer_gettime, id, &got));
        printf("interval %ld left %d\n", (long)got.it_interval.tv_nsec, got.it_value.tv_nsec > 0 && got.it_value.tv_nsec <= 20000000);
        until_seen(3);
        printf("seen %d code %d\n", seen >= 3, seen_code);
        memset(&s, 0, sizeof s);
        ONE("stop", CALL(timer_settime, id, 0, &s, &got));
        seen = 0;
        burn(50);
        ONE("seen", seen);
        struct timespec now;
        clock_gettime(clocks[i], &now);
        s.it_value = now, s.it_value.tv_nsec += 20000000;
        if (s.it_value.tv_nsec >= 1000000000)
            s.it_value.tv_sec++, s.it_value.tv_nsec -= 1000000000;
        ONE("until", CALL(timer_settime, id, TIMER_ABSTIME, &s, 0));
        until_seen(1);
        ONE("seen", seen);
        ONE("gettime", CALL(timer_gettime, id, &got));
        printf("nothing left %d\n", !got.it_value.tv_sec && !got.it_value.tv_nsec);
        ONE("overrun", CALL(timer_getoverrun, id));
        ONE("delete", CALL(timer_delete, id));
    }
    /* The child's time wakes its parent. */
    int child = fork();
    if (!child)
        for (;;)
            ;
    struct timespec t = {0, 30000000};
    ONE("sleep on the child's clock", CALL(clock_nanosleep, (int)((~(unsigned)child << 3) | 2), 0, &t, 0));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    seen = 0;
    struct itimerval it = {{0, 0}, {0, 50000}};
    setitimer(ITIMER_REAL, &it, 0);
    ONE("own clock stands still", CALL(clock_nanosleep, CLOCK_PROCESS_CPUTIME_ID, 0, (&(struct timespec){5, 0}), &b));
    ONE("seen", seen);
    /* The limit: SIGXCPU at the soft one, each second, SIGKILL at the hard one. */
    for (int i = 0; i < 3; i++) {
        child = fork();
        if (!child) {
            struct rlimit r = {1, i ? 2 : 5};
            seen = 0;
            if (i)
                sigaction(SIGXCPU, &action, 0);
            if (i == 2) {
                r.rlim_cur = 0;
                setrlimit(RLIMIT_CPU, &r);
                getrlimit(RLIMIT_CPU, &r);
                _exit(r.rlim_cur);
            }
            setrlimit(RLIMIT_CPU, &r);
            time_t end = time(0) + 20;
            while (time(0) < end)
                ;
            _exit(1);
        }
        int status;
        waitpid(child, &status, 0);
        printf("limit %d: signal %d status %d\n", i, WTERMSIG(status), WEXITSTATUS(status));
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    long used = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000, clock = b.tv_sec * 1000 + b.tv_nsec / 1000000;
    printf("usage and clock agree: %d\n", labs(used - clock) < 30);
}
static long slurp(const char *path, char *to, long size) {
    int f = open(path, O_RDONLY);
    if (f < 0)
        return answer(-1);
    long sum = 0, n;
    while ((n = CALL(read, f, to + sum, size - sum)) > 0)
        sum += n;
    close(f);
    return n < 0 ? n : sum;
}

/* What /proc tells of this process and of another one. */
extern char **environ;
static void processes(void) {
    struct stat a, b;
    long n = slurp("/proc/self/environ", memset(buffer, 0, 65536), 65535), at = 0, same = 1;
    for (char **e = environ; *e; e++) {
        same &= !strcmp(buffer + at, *e);
        at += strlen(*e) + 1;
    }
    ONE("the environment", same && at == n);
    n = slurp("/proc/self/cmdline", memset(buffer, 0, 65536), 65535);
    ONE("the arguments", n > 0 && !buffer[n - 1]);
    umask(027);
    slurp("/proc/self/status", memset(buffer, 0, 65536), 65535);
    char *mask = strstr(buffer, "Umask:\t");
    printf("mask %.4s\n", mask ? mask + 7 : "none");
    umask(022);
    static const char *const fields[] = {"Name:", "Umask:", "State:", "Tgid:", "Ngid:", "Pid:", "PPid:", "TracerPid:", "Uid:", "Gid:", "FDSize:", "Groups:",
        "VmPeak:", "VmSize:", "VmLck:", "VmPin:", "VmHWM:", "VmRSS:", "RssAnon:", "RssFile:", "RssShmem:", "VmData:", "VmStk:", "VmSwap:", "Threads:", "SigQ:",
        "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Cpus_allowed:", "Mems_allowed:"};
    for (unsigned i = 0; i < sizeof fields / sizeof *fields; i++)
        ONE(fields[i], strstr(buffer, fields[i]) != 0);
    stat("/proc/self/status", &a), stat("/proc/self/status", &b);
    ONE("one number", a.st_ino == b.st_ino);
    DIR *d = opendir("/proc/self/fd");
    int wrong = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            fstatat(dirfd(d), e->d_name, &a, AT_SYMLINK_NOFOLLOW);
            wrong += a.st_ino != e->d_ino;
        }
    ONE("wrong numbers", wrong);
    if (d)
        closedir(d);
    int told[2];
    char path[64], link[100];
    MUST(pipe(told));
    int child = MUST(fork());
    if (!child) {
        MUST(chdir("/"));
        MUST(dup2(MUST(open("/dev/null", O_RDONLY)), 500));
        close(told[0]);
        MUST(write(told[1], "x", 1));
        pause();
        _exit(0);
    }
    MUST(read(told[0], link, 1));
    snprintf(path, sizeof path, "/proc/%d/fd/500", child);
    n = readlink(path, link, sizeof link);
    printf("the child's descriptor %.*s\n", n > 0 ? (int)n : 1, n > 0 ? link : "-");
    snprintf(path, sizeof path, "/proc/%d/cwd", child);
    n = readlink(path, link, sizeof link);
    printf("the child's directory %.*s\n", n > 0 ? (int)n : 1, n > 0 ? link : "-");
    snprintf(path, sizeof path, "/proc/%d/fd/%d", child, told[0]);
    ONE("what the child has closed", readlink(path, link, sizeof link));
    kill(child, SIGKILL);
    waitpid(child, 0, 0);
    snprintf(path, sizeof path, "/proc/%d/status", child);
    ONE("gone", CALL(open, path, O_RDONLY));
    ONE("write to what was opened to be read", CALL(write, open("/proc/self/status", O_RDONLY), buffer, 1));
    close_all();
}

/* What RLIMIT_SIGPENDING refuses, and what it does not; far more waiting signals than a thousand, in order. */
static void pending(void) {
    enum { MANY = 3000 };
    struct rlimit old, limit;
    getrlimit(RLIMIT_SIGPENDING, &old);
    sigset_t set, before;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2), sigaddset(&set, 40), sigaddset(&set, 41);
    sigprocmask(SIG_BLOCK, &set, &before);
    limit = old, limit.rlim_cur = 0;
    setrlimit(RLIMIT_SIGPENDING, &limit);
    union sigval v = {.sival_int = 7};
    int id = -1;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    int queued = sigqueue(getpid(), 40, v);
    printf("no place: queue %d %d", queued, errno);
    printf(", queue a standard one %d, kill %d %d, tgkill %ld, timer %ld\n", sigqueue(getpid(), SIGUSR1, v), kill(getpid(), 41), kill(getpid(), SIGUSR2), CALL(tgkill, getpid(), getpid(), 40), CALL(timer_create, CLOCK_MONOTONIC, &none, &id));
    siginfo_t info;
    struct timespec now = {0, 0};
    for (int signal; (signal = sigtimedwait(&set, &info, &now)) > 0;)
        printf("came %d, code %d, value %d\n", signal, info.si_code, info.si_code == SI_QUEUE ? info.si_value.sival_int : 0);
    setrlimit(RLIMIT_SIGPENDING, &old);
    int sent = 0, good = 0, timers = 0;
    static int ids[MANY];
    for (int i = 0; i < MANY; i++)
        v.sival_int = i, sent += sigqueue(getpid(), 40 + i % 2, v) == 0;
    for (int i = 0; i < MANY; i++)
        good += sigtimedwait(&set, &info, &now) == 40 + i / (MANY / 2) && info.si_value.sival_int == i % (MANY / 2) * 2 + i / (MANY / 2);
    for (int i = 0; i < MANY; i++)
        timers += CALL(timer_create, CLOCK_MONOTONIC, &none, &ids[i]) == 0;
    for (int i = 0; i < MANY; i++)
        CALL(timer_delete, ids[i]);
    printf("sent %d, in order %d, timers %d\n", sent, good, timers);
    sigprocmask(SIG_SETMASK, &before, 0);
}

/* A signal comes in the middle of a wait: what starts again, and with how much of its time. */
static pid_t signal_after(int ms, int signal) {
    pid_t target = getpid(), child = fork();
    if (child == 0) {
        usleep(ms * 1000);
        kill(target, signal);
        if (signal == SIGSTOP)
            usleep(20000), kill(target, SIGCONT);
        _exit(0);
    }
    return child;
}
static long since(const struct timespec *begun) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - begun->tv_sec) * 1000 + (now.tv_nsec - begun->tv_nsec) / 1000000;
}
/* A wait, its result, and whether its time was right: interrupted in the middle of it, or to the end and not twice. */
#define INTERRUPTED(text, signal, call) do {                                                                             \
        struct timespec begun;                                                                                           \
        clock_gettime(CLOCK_MONOTONIC, &begun);                                                                          \
        pid_t child = signal_after(150, signal);                                                                         \
        long result = (call), ms = since(&begun);                                                                        \
        waitpid(child, 0, 0);                                                                                            \
        printf("%s: %ld, time %s\n", text, result, result == -EINTR ? ms < 380 ? "right" : "long" : ms < 380 ? "short" : "right"); \
    } while (0)

static void interruptions(void) {
    struct sigaction again = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &again, 0);
    struct timespec some = {0, 400000000}, until;
    struct pollfd none = {-1, POLLIN, 0};
    for (int kind = 0; kind < 2; kind++) {
        /* A handler runs; or none, for the program is only stopped for a moment. */
        int signal = kind ? SIGSTOP : SIGUSR1;
        printf("interrupted by %s\n", kind ? "a stop" : "a handler");
        INTERRUPTED("futex", signal, CALL(futex, page, FUTEX_WAIT, 0, &some, 0, 0));
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 400000000;
        if (until.tv_nsec >= 1000000000)
            until.tv_sec++, until.tv_nsec -= 1000000000;
        INTERRUPTED("futex until", signal, CALL(futex, page, FUTEX_WAIT_BITSET, 0, &until, 0, -1));
        /* The deadline of an earlier call is nothing to this one, nor to the next. */
        CALL(poll, &none, 1, 1);
        int ends[2];
        MUST(pipe(ends));
        pid_t writer = fork();
        if (writer == 0)
            usleep(300000), MUST(write(ends[1], "x", 1)), _exit(0);
        pid_t child = signal_after(150, signal);
        ONE("read", CALL(read, ends[0], buffer, 1));
        waitpid(child, 0, 0), waitpid(writer, 0, 0);
        struct timespec begun;
        clock_gettime(CLOCK_MONOTONIC, &begun);
        printf("sleep %ld", CALL(nanosleep, &some, 0));
        printf(", time %s\n", since(&begun) < 380 ? "short" : "right");
        close_all();
    }
}

/* A time that has passed when a timer is set: it has gone off when that returns. */
static void already_past(void) {
    struct itimerspec past = {{0, 0}, {0, 1}}, often = {{1000, 0}, {0, 1}}, none = {{7, 0}, {0, 0}}, now;
    uint64_t count = 0;
    for (int clock = 0; clock < 2; clock++) {
        int t = MUST(timerfd_create(clock, TFD_NONBLOCK));
        for (int again = 0; again < 200; again++) {
            long set = CALL(timerfd_settime, t, 1, again % 2 ? &past : &often, 0), in = poll_one(t, POLLIN), got = CALL(read, t, &count, 8);
            if (set || in != 100001 || got != 8 || count == 0 || (again % 2 && count != 1))
                printf("past timerfd %d: %ld %ld %ld %ld\n", again, set, in, got, (long)count);
        }
        CALL(timerfd_settime, t, 0, &none, 0);
        ONE("timerfd_gettime", CALL(timerfd_gettime, t, &now));
        printf("stopped: interval %ld value %ld\n", (long)now.it_interval.tv_sec, (long)now.it_value.tv_sec);
        ONE("old", CALL(timerfd_settime, t, 0, &past, &now));
        printf("old: interval %ld value %ld\n", (long)now.it_interval.tv_sec, (long)now.it_value.tv_sec);
    }
    close_all();
    sigset_t set, pending;
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, 0);
    int id;
    ONE("timer_create", CALL(timer_create, CLOCK_MONOTONIC, (&(struct sigevent){.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2}), &id));
    for (int again = 0; again < 200; again++) {
        long made = CALL(timer_settime, id, TIMER_ABSTIME, &past, 0);
        sigpending(&pending);
        if (made || !sigismember(&pending, SIGUSR2))
            printf("past timer %d: %ld\n", again, made);
        CALL(rt_sigtimedwait, &set, 0, (&(struct timespec){0, 0}), 8);
    }
    CALL(timer_delete, id);
    sigprocmask(SIG_UNBLOCK, &set, 0);
}

int main(void) {
    begin();
    already_past();
    interruptions();
    waits();
    pending();
    processor_time();
    processes();
    end();
    return 0;
}
