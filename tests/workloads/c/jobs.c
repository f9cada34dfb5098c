/* How threads, processes and groups end, stop and go on, and who hears of it; what clone takes; signals that are checked, ignored and counted. */
#include "calls.h"
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif
enum { PAGE = 4096, PARENT_TID = 0x100000, CHILD_CLEARTID = 0x200000, OF_PARENT = 0x8000, WITH_VM = 0x100 };

static char much[20 << 20];
static int status;
static pid_t pid;

/* A child that does something and ends by itself or not. */
#define CHILD(...)                                                                                                     \
    do {                                                                                                               \
        fflush(stdout);                                                                                                \
        if ((pid = MUST(fork())) == 0) {                                                                               \
            __VA_ARGS__;                                                                                               \
            fflush(stdout), _exit(0);                                                                                  \
        }                                                                                                              \
    } while (0)
#define WAIT(what) (waitpid(pid, &status, 0), printf("%s: %x\n", what, status))

static siginfo_t info;
static void told(const char *what, long result) {
    printf("%s: %ld, signal %d code %d status %d of it %d\n", what, result, info.si_signo, info.si_code, info.si_status, info.si_pid == pid);
    memset(&info, 7, sizeof info);
}
#define TELL(what, ...) told(what, CALL(waitid, __VA_ARGS__))

/* Who has ended neither stops nor goes on: it is no child to who waits for that alone, for ever or not. */
static void waits(void) {
    TELL("nobody", P_ALL, 0, &info, WEXITED, 0), TELL("no flags", P_ALL, 0, &info, WNOHANG, 0);
    CHILD(_exit(3));
    TELL("ended", P_PID, pid, &info, WEXITED | WNOWAIT, 0);
    TELL("a stop of it", P_PID, pid, &info, WSTOPPED, 0), TELL("any stop", P_ALL, 0, &info, WSTOPPED | WCONTINUED | WNOHANG, 0);
    ONE("nowhere", CALL(waitid, P_PID, pid, hole, WSTOPPED, 0));
    TELL("its end", P_PID, pid, &info, WEXITED, 0);
    CHILD(pause());
    kill(pid, SIGSTOP), TELL("stopped", P_PID, pid, &info, WSTOPPED, 0);
    kill(pid, SIGCONT), TELL("goes on", P_PID, pid, &info, WCONTINUED, 0);
    TELL("nothing new", P_PID, pid, &info, WSTOPPED | WNOHANG, 0);
    pid_t waited = pid;
    if ((pid = MUST(fork())) == 0)
        usleep(100000), kill(waited, SIGKILL), _exit(0);
    pid_t killer = pid;
    pid = waited, TELL("it ends while somebody waits for its stop", P_PID, pid, &info, WSTOPPED, 0);
    waitpid(waited, NULL, 0), waitpid(killer, NULL, 0);
}

static void *ends_later(void *code) {
    usleep(100000);
    return (void *)syscall(SYS_exit, (long)code);
}
static void *leaves_group(void *code) { usleep(100000), _exit((int)(long)code); }
static void *calls_exec(void *unused) { return (void *)(long)execl("/proc/thread-self/exe", "jobs", "ends", NULL) + (long)unused; }

/* The last thread's end is the process's, unless all were told to end. A leader that is gone is there, and hears nothing. */
static void last_threads(void) {
    pthread_t thread;
    CHILD(pthread_create(&thread, NULL, ends_later, (void *)4), syscall(SYS_exit, 9));
    usleep(50000);
    ONE("kill", CALL(kill, pid, 0)), ONE("tgkill", CALL(tgkill, pid, pid, SIGUSR1)), ONE("tkill", CALL(tkill, pid, 65));
    WAIT("the last thread"), ONE("nobody", CALL(tgkill, pid, pid, 0));
    CHILD(pthread_create(&thread, NULL, leaves_group, (void *)5), syscall(SYS_exit, 9));
    WAIT("exit_group");
    CHILD(pthread_create(&thread, NULL, calls_exec, NULL), syscall(SYS_exit, 9));
    WAIT("execve");
    CHILD(_exit(2));
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    ONE("of a zombie: tgkill", CALL(tgkill, pid, pid, SIGTERM)), ONE("tkill", CALL(tkill, pid, 0)), ONE("another group", CALL(tgkill, getpid(), pid, 0));
    ONE("no signal", CALL(tgkill, pid, pid, 65)), ONE("kill", CALL(kill, pid, 65)), WAIT("zombie");
    ONE("nobody, no signal", CALL(kill, pid, 65)), ONE("no group", CALL(kill, -pid, 65)), ONE("no thread", CALL(tgkill, pid, pid, 65));
}

static int told_by[2];
static void writes(int signal) { MUST(write(told_by[1], signal == SIGHUP ? "h" : "c", 1)); }

/* A process in a group of its own, whose parent `ends` or not; what it hears when that has ended while it was stopped. */
static void orphan(const char *what, int stops, int elsewhere) {
    char heard[8] = "";
    MUST(pipe(told_by));
    CHILD({
        pid_t own = fork();
        if (own == 0) {
            elsewhere ? setsid() : setpgid(0, 0);
            signal(SIGHUP, writes), signal(SIGCONT, writes);
            stops ? raise(SIGSTOP) : usleep(200000);
            MUST(write(told_by[1], "x", 1));
            _exit(0);
        }
        stops ? waitpid(own, NULL, WUNTRACED) : usleep(100000);
        /* In another session it is an orphan already, and nobody tells it. */
        if (elsewhere)
            kill(own, SIGKILL);
    });
    close(told_by[1]), WAIT("parent");
    long n = 0, got;
    while ((got = read(told_by[0], heard + n, 7 - n)) > 0)
        n += got;
    printf("%s: %s\n", what, heard), close(told_by[0]);
}

static void groups(void) {
    orphan("stopped", 1, 0), orphan("not stopped", 0, 0), orphan("of another session", 1, 1);
    CHILD(setsid(), raise(SIGTSTP), raise(SIGTTIN), raise(SIGTTOU), _exit(5));
    waitpid(pid, &status, WUNTRACED), printf("nobody could continue it: %x\n", status);
    CHILD(setpgid(0, 0), raise(SIGTSTP), _exit(6));
    waitpid(pid, &status, WUNTRACED), printf("its parent could: %x\n", status);
    kill(pid, SIGCONT), WAIT("it ends");
    CHILD(setsid(), raise(SIGSTOP), _exit(7));
    waitpid(pid, &status, WUNTRACED), printf("SIGSTOP stops everybody: %x\n", status);
    kill(pid, SIGCONT), WAIT("it ends");
}

/* Who ignores SIGCHLD hears nothing, though it is blocked; who only does not wait, does. */
static void ignored(void) {
    sigset_t set;
    struct timespec now = {0, 0};
    sigemptyset(&set), sigaddset(&set, SIGCHLD), sigprocmask(SIG_BLOCK, &set, NULL);
    const struct sigaction ways[] = {{.sa_handler = SIG_IGN}, {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT}, {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP}, {.sa_handler = SIG_DFL}};
    for (int i = 0; i < 4; i++) {
        sigaction(SIGCHLD, &ways[i], NULL);
        CHILD(raise(SIGSTOP), _exit(1));
        ONE("stopped", waitpid(pid, &status, WUNTRACED) == pid), ONE("signal", answer(sigtimedwait(&set, NULL, &now)));
        kill(pid, SIGCONT), ONE("wait", i < 2 ? answer(waitpid(pid, &status, 0)) : waitpid(pid, &status, 0) == pid);
        ONE("signal", answer(sigtimedwait(&set, NULL, &now)));
    }
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int ends(void *with) { return (int)(long)with; }

static void clones(void) {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tids, group;
    } args = {.exit_signal = SIGCHLD};
    for (int bit = 36; bit < 64; bit++) {
        args.flags = 1ul << bit;
        long child = CALL(clone3, &args, sizeof args);
        if (child == 0)
            _exit(0);
        printf("flag %d: %ld\n", bit, child > 0 ? waitpid(child, NULL, 0) == child : child);
    }
    args.flags = OF_PARENT, ONE("a sister with a signal of her own", CALL(clone3, &args, sizeof args));
    char *stack = (char *)mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + 16 * PAGE;
    int *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid = answer(clone(ends, stack, PARENT_TID | SIGCHLD, (void *)4, hole)), ONE("its number nowhere", pid > 0), WAIT("it");
    /* The word of one that ends is cleared only where somebody has the same memory. */
    for (int vm = 0; vm < 2; vm++) {
        *shared = 77;
        pid = clone(ends, stack, (vm ? WITH_VM : 0) | CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL, shared);
        WAIT("it"), ONE("its word", *shared);
    }
    /* A sister tells the parent of both as her maker would. */
    CHILD({
        signal(SIGCHLD, SIG_DFL);
        pid_t maker = fork();
        if (maker == 0)
            _exit(clone(ends, stack, OF_PARENT | SIGUSR1, NULL) < 0);
        ONE("maker", waitpid(maker, &status, 0) == maker), ONE("sister", wait(&status) > 0), ONE("nobody more", answer(wait(NULL)));
    });
    WAIT("their parent");
}

static void signals(void) {
    struct { uint64_t handler, flags, restorer, mask; } all = {1, -1, 0, -1}, got;
    ONE("set", CALL(rt_sigaction, SIGUSR2, &all, NULL, 8)), CALL(rt_sigaction, SIGUSR2, NULL, &got, 8);
    printf("flags %lx mask %lx\n", (long)got.flags, (long)got.mask);
    siginfo_t x = {.si_code = SI_QUEUE};
    CHILD(pause());
    ONE("no signal", CALL(rt_sigqueueinfo, pid, 0, &x)), ONE("beyond", CALL(rt_sigqueueinfo, pid, 65, &x)), ONE("nobody", CALL(rt_sigqueueinfo, 4000000, 65, &x));
    ONE("to a thread", CALL(rt_tgsigqueueinfo, pid, pid, 0, &x)), ONE("beyond", CALL(rt_tgsigqueueinfo, pid, pid, 65, &x)), ONE("id 0", CALL(rt_tgsigqueueinfo, pid, 0, 10, &x));
    x.si_code = SI_TKILL, ONE("forged", CALL(rt_tgsigqueueinfo, pid, pid, 0, &x)), ONE("by another", CALL(rt_sigqueueinfo, pid, 0, &x)), ONE("of none", CALL(rt_tgsigqueueinfo, pid, 0, 10, &x));
    ONE("to itself", CALL(rt_tgsigqueueinfo, getpid(), getpid(), 0, &x));
    kill(pid, SIGKILL), WAIT("child");
    stack_t stack = {.ss_flags = (int)(SS_DISABLE | 1u << 31)}, before;
    ONE("no stack any more", CALL(sigaltstack, &stack, NULL)), CALL(sigaltstack, NULL, &before), printf("flags %x\n", before.ss_flags);
}

/* The most memory of a process is its own; of its children, what they and theirs had. Half of it tells: Linux counts in batches. What
 * a program had before exec counts as well there, so this process itself is not asked. */
static void memory(void) {
    enum { MANY = sizeof much };
    struct rusage own, child, children;
    CHILD({
        CHILD(for (int i = 0; i < MANY; i += PAGE) ((volatile char *)much)[i] = 1);
        WAIT("grandchild");
        getrusage(RUSAGE_SELF, &own), ONE("its own", own.ru_maxrss < MANY / 2048);
    });
    wait4(pid, &status, 0, &child), getrusage(RUSAGE_CHILDREN, &children);
    printf("both below: %d, all of them: %d\n", child.ru_maxrss >= MANY / 2048, children.ru_maxrss == child.ru_maxrss);
}

int main(int argc, char **argv) {
    if (argc == 2)
        return argv[1][0] == 'e' ? 8 : 1;
    begin();
    waits();
    last_threads();
    groups();
    ignored();
    clones();
    signals();
    memory();
    end();
    return 0;
}
