/* Processes behind descriptors, programs run by descriptors, copies between memories, signals that find no room, times and limits of System V's segments. */
#include "calls.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>

#define P_FD ((idtype_t)3)
enum { OPEN = 434, GETFD = 438, SEND = 424, CLONE3 = 435, PIDFD_FLAG = 0x1000 };

static long say(const char *what, long got) {
    got = answer(got);
    printf("%s: %ld\n", what, got < 0 ? got : 0);
    return got;
}

static int ready(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

/* A child that ends with 7 when it is told through a pipe. */
static pid_t child(int tell[2]) {
    char c;
    if (pipe(tell) != 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        close(tell[1]);
        _exit(read(tell[0], &c, 1) == 0 ? 7 : 1);
    }
    close(tell[0]);
    return pid;
}

static volatile sig_atomic_t value;
static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    value = info->si_value.sival_int;
}

static void descriptors(void) {
    int tell[2];
    char c;
    struct stat a, b;
    siginfo_t info = {0};
    pid_t pid = child(tell);
    int fd = say("open", syscall(OPEN, pid, 0)), other = syscall(OPEN, pid, O_NONBLOCK);
    ONE("closed by exec", fcntl(fd, F_GETFD));
    ONE("flags", fcntl(other, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
    ONE("one process, one number", fstat(fd, &a) == 0 && fstat(other, &b) == 0 && a.st_ino == b.st_ino);
    int mine = syscall(OPEN, getpid(), 0);
    ONE("another process", fstat(mine, &b) == 0 && a.st_ino != b.st_ino);
    say("flags that are none", syscall(OPEN, pid, 1));
    say("no id", syscall(OPEN, 0, 0)), say("negative", syscall(OPEN, -1, 0)), say("nobody", syscall(OPEN, 4000000, 0));
    say("read", read(fd, &c, 1)), say("write", write(fd, &c, 1));
    ONE("lives", ready(fd));
    say("wait without waiting", waitid(P_FD, other, &info, WEXITED));
    say("the same, told twice", waitid(P_FD, other, &info, WEXITED | WNOHANG));
    say("nothing", waitid(P_FD, fd, &info, WEXITED | WNOHANG));
    say("not a child", waitid(P_FD, mine, &info, WEXITED | WNOHANG));
    say("not a process", waitid(P_FD, tell[1], &info, WEXITED)), say("closed", waitid(P_FD, 999, &info, WEXITED));
    say("negative", waitid(P_FD, -1, &info, WEXITED));

    say("signal 0", syscall(SEND, fd, 0, NULL, 0)), say("no signal", syscall(SEND, fd, 65, NULL, 0));
    say("flags", syscall(SEND, fd, 0, NULL, 8)), say("not a process", syscall(SEND, tell[1], 0, NULL, 0));
    struct sigaction act = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &act, NULL);
    info = (siginfo_t){.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    info.si_value.sival_int = 77;
    say("to oneself", syscall(SEND, mine, SIGUSR1, &info, 0));
    ONE("value", value);
    int self = open("/proc/self", O_RDONLY | O_DIRECTORY);
    info.si_value.sival_int = 78;
    say("by /proc", syscall(SEND, self, SIGUSR1, &info, 0));
    ONE("value", value);
    say("another number", syscall(SEND, mine, SIGUSR2, &info, 0));
    info.si_code = SI_USER;
    say("forged", syscall(SEND, fd, SIGUSR1, &info, 0)), say("forged for oneself", syscall(SEND, mine, SIGUSR1, &info, 0));

    int copy = syscall(GETFD, mine, tell[1], 0);
    ONE("a copy", copy >= 0 && fcntl(copy, F_GETFD) == FD_CLOEXEC && fstat(copy, &a) == 0 && fstat(tell[1], &b) == 0 && a.st_ino == b.st_ino);
    close(copy);
    say("of nothing", syscall(GETFD, mine, 999, 0)), say("flags", syscall(GETFD, mine, tell[1], 1));
    say("from no process", syscall(GETFD, tell[1], 0, 0));

    int set = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    say("into a set", epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
    ONE("events", epoll_wait(set, &e, 1, 0));
    close(tell[1]);
    ONE("events", epoll_wait(set, &e, 1, 20000));
    struct pollfd p = {.fd = other, .events = POLLIN};
    ONE("ended", poll(&p, 1, 20000) == 1 ? p.revents : -1);
    say("signal to a zombie", syscall(SEND, fd, SIGTERM, NULL, 0));
    say("look", waitid(P_FD, fd, &info, WEXITED | WNOWAIT)), say("wait", waitid(P_FD, other, &info, WEXITED));
    ONE("status", info.si_status), ONE("of it", info.si_pid == pid);
    ONE("gone", ready(fd));
    say("wait", waitid(P_FD, fd, &info, WEXITED)), say("signal", syscall(SEND, fd, 0, NULL, 0));
    say("copy", syscall(GETFD, fd, 0, 0)), say("open", syscall(OPEN, pid, 0));
    close(fd), close(other), close(mine), close(self), close(set);
}

/* clone and clone3 give the descriptor with the process. */
static void made_with(void) {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } args = {.flags = PIDFD_FLAG, .exit_signal = SIGCHLD};
    int fd = -1, lowest = dup(0);
    siginfo_t info;
    close(lowest);
    args.pidfd = (uintptr_t)&fd;
    long pid = syscall(CLONE3, &args, sizeof args);
    if (pid == 0)
        _exit(fcntl(lowest, F_GETFD) == -1 ? 3 : 4);
    say("clone3", pid);
    ONE("lowest", fd == lowest), ONE("closed by exec", fcntl(fd, F_GETFD));
    say("wait", waitid(P_FD, fd, &info, WEXITED)), ONE("status", info.si_status);
    close(fd);
    args.pidfd = 8;
    say("nowhere", syscall(CLONE3, &args, sizeof args));
    ONE("nothing left", dup(0) == lowest), close(lowest);
    args.pidfd = args.parent_tid = (uintptr_t)&fd;
    args.flags |= 0x100000;
    say("one place for two", syscall(CLONE3, &args, sizeof args));
    pid = syscall(SYS_clone, PIDFD_FLAG | SIGCHLD, 0, &fd, 0, 0);
    if (pid == 0)
        _exit(5);
    say("wait", waitid(P_FD, fd, &info, WEXITED)), ONE("status", info.si_status);
    close(fd);
    say("one place for two", syscall(SYS_clone, PIDFD_FLAG | 0x100000 | SIGCHLD, 0, &fd, 0, 0));
}

/* RLIMIT_SIGPENDING: what is told with a signal needs room. */
static void room_for_signals(void) {
    if (fork() != 0) {
        int status;
        wait(&status);
        ONE("ended", WEXITSTATUS(status));
        return;
    }
    sigset_t set, pending;
    struct rlimit none = {0, 0};
    siginfo_t info;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN), sigaddset(&set, SIGRTMIN + 1), sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    setrlimit(RLIMIT_SIGPENDING, &none);
    union sigval v = {.sival_int = 5};
    say("queue", sigqueue(getpid(), SIGRTMIN, v)), say("tgkill", syscall(SYS_tgkill, getpid(), getpid(), SIGRTMIN));
    sigpending(&pending), ONE("pending", sigismember(&pending, SIGRTMIN));
    say("kill", kill(getpid(), SIGRTMIN + 1)), say("queue a standard signal", sigqueue(getpid(), SIGUSR1, v));
    ONE("without what was told", sigwaitinfo(&set, &info) == SIGUSR1 && info.si_code == SI_USER && info.si_value.sival_int == 0);
    ONE("and the other", sigwaitinfo(&set, &info) == SIGRTMIN + 1 && info.si_pid == 0);
    fflush(stdout);
    _exit(0);
}

static void number_in(const char *path) {
    char text[64] = "";
    int fd = open(path, O_RDONLY);
    say("open", read(fd, text, sizeof text - 1));
    printf("%s: %s", path, text), close(fd);
}

static void segments(void) {
    struct shmid_ds ds;
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    shmctl(id, IPC_STAT, &ds);
    time_t then = ds.shm_ctime;
    sleep(1);
    ds.shm_perm.mode = 0640;
    say("set", shmctl(id, IPC_SET, &ds)), shmctl(id, IPC_STAT, &ds);
    ONE("changed", ds.shm_ctime > then), ONE("attached", ds.shm_atime);
    shmctl(id, IPC_RMID, NULL);
    number_in("/proc/sys/kernel/shmmax"), number_in("/proc/sys/kernel/shmall"), number_in("/proc/sys/kernel/shmmni");
    number_in("/proc/sys/kernel/tainted");
}

enum { PAGE = 4096 };

static long copy(int write, pid_t pid, struct iovec *own, long owns, struct iovec *other, long others) {
    return answer(syscall(write ? SYS_process_vm_writev : SYS_process_vm_readv, pid, own, owns, other, others, 0));
}

/* One after the other: whether they carry the numbers that follow each other from `first` on. */
static int follow(const char *at, long len, int first) {
    for (long i = 0; i < len; i++)
        if (at[i] != (char)((first + i) % 101))
            return 0;
    return 1;
}

/* The child changes its memory after the fork, so what is read is its own; pages that are copies, files, zeros, holes, gone. */
static void memories(void) {
    enum { PAGES = 12 };
    int tell[2], done[2], fd = memfd_create("other", 0);
    char c = 0;
    if (pipe(tell) || pipe(done) || ftruncate(fd, PAGE))
        exit(1);
    char *m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *edge = (char *)mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) + PAGE;
    memset(m, 1, 2 * PAGE), mprotect(edge, PAGE, PROT_NONE);
    pid_t pid = fork();
    if (pid == 0) {
        mmap(m + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        for (int i = 0; i < 4 * PAGE; i++)
            m[i] = i % 101;
        mprotect(m + 5 * PAGE, PAGE, PROT_READ), mprotect(m + 6 * PAGE, PAGE, PROT_NONE), munmap(m + 8 * PAGE, PAGE);
        mmap(m + 10 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        close(tell[1]);
        if (write(done[1], &c, 1) != 1 || read(tell[0], &c, 1) != 0)
            exit(1);
        ONE("written", follow(m + PAGE, 3 * PAGE, 50) && follow(m + 9 * PAGE, PAGE, 50 + 3 * PAGE) && m[0] == 0);
        _exit(0);
    }
    if (read(done[0], &c, 1) != 1)
        exit(1);
    struct iovec own = {buffer, 4 * PAGE}, other = {m, 4 * PAGE}, none = {m, 0};
    ONE("read", copy(0, pid, &own, 1, &other, 1)), ONE("right", follow(buffer, 4 * PAGE, 0));
    struct iovec two[] = {{buffer, 5}, {buffer + 100, 10000}}, three[] = {{m + 7, 3}, {m + 4093, 5000}, {m, 0}};
    ONE("in parts", copy(0, pid, two, 2, three, 3)), ONE("right", follow(buffer, 3, 7) && follow(buffer + 3, 2, 4093) && follow(buffer + 100, 4998, 4095));
    for (int page = 4; page < PAGES; page++) {
        struct iovec at = {m + page * PAGE, 2 * PAGE};
        own.iov_len = 2 * PAGE, memset(buffer, 9, 2 * PAGE);
        printf("page %d: read %ld", page, copy(0, pid, &own, 1, &at, 1)), printf(" (%d) ", buffer[0]);
        memset(buffer, 0, 2 * PAGE), printf("written %ld\n", copy(1, pid, &own, 1, &at, 1));
    }
    ONE("our own edge", (own.iov_base = edge - 10, copy(0, pid, &own, 1, &other, 1)));
    ONE("behind it", (own.iov_base = edge, copy(0, pid, &own, 1, &other, 1)));
    ONE("our own edge, written", (own.iov_base = edge - 10, other.iov_base = m + 4 * PAGE, copy(1, pid, &own, 1, &other, 1)));
    ONE("nothing of ours", (own.iov_len = 0, copy(0, pid, &own, 1, (void *)8, 1))), ONE("nothing of theirs", (own.iov_len = 5, copy(0, pid, &own, 1, &none, 1)));
    ONE("no parts", copy(0, pid, NULL, 0, NULL, 0)), ONE("too many", copy(0, pid, &own, 1, &other, 1025)), ONE("too many of ours", copy(0, pid, &own, 1025, &other, 1));
    ONE("no list", copy(0, pid, &own, 1, (void *)8, 1)), ONE("a length that wraps", (other.iov_len = -1, copy(0, pid, &own, 1, &other, 1)));
    other.iov_len = 8;
    ONE("nobody", copy(0, 4000000, &own, 1, &other, 1)), ONE("id 0", copy(0, 0, &own, 1, &other, 1));
    ONE("flags", answer(syscall(SYS_process_vm_readv, pid, &own, 1, &other, 1, 1)));
    for (int i = 0; i < 4 * PAGE; i++)
        buffer[i] = (50 + i) % 101;
    struct iovec all = {buffer, 4 * PAGE}, there[] = {{m + PAGE, 3 * PAGE}, {m + 9 * PAGE, PAGE}};
    ONE("write", copy(1, pid, &all, 1, there, 2)), ONE("ours stays", m[PAGE] == 1);
    struct iovec mine = {m, 4}, into = {buffer, 4};
    ONE("our own", copy(0, getpid(), &into, 1, &mine, 1));
    close(tell[1]);
    siginfo_t info;
    ONE("ended", waitid(P_PID, pid, &info, WEXITED | WNOWAIT)), ONE("of a zombie", copy(0, pid, &into, 1, &mine, 1));
    wait(NULL), munmap(m, PAGES * PAGE), munmap(edge - PAGE, 2 * PAGE), close(fd), close(tell[0]), close(done[0]), close(done[1]);
}

/* A child that runs what `fd` or `path` means; how it ended, or why not. */
static void run(const char *what, int fd, const char *path, int flags) {
    char *args[] = {"processes", "run", NULL};
    int status;
    fflush(stdout);
    if (fork() == 0)
        _exit(-answer(syscall(SYS_execveat, fd, path, args, NULL, flags)));
    wait(&status);
    printf("%s: %x\n", what, status);
}

/* A program is run by its descriptor: the open file, whatever its path names. */
static void programs(void) {
    int me = MUST(open("/proc/self/exe", O_RDONLY)), memory = MUST(memfd_create("run", MFD_CLOEXEC));
    int named = MUST(open("named", O_RDWR | O_CREAT, 0700));
    struct stat s;
    fstat(me, &s);
    ONE("copied", sendfile(memory, me, (off_t[]){0}, s.st_size) == s.st_size && sendfile(named, me, (off_t[]){0}, s.st_size) == s.st_size);
    close(named), named = MUST(open("named", O_PATH | O_CLOEXEC)), close(me);
    MUST(unlink("named")), MUST(symlink("other", "named")), close(MUST(open("other", O_RDWR | O_CREAT, 0600)));
    run("memory", memory, "", AT_EMPTY_PATH), run("without a name", named, "", AT_EMPTY_PATH), run("no flag", memory, "", 0);
    run("no program", AT_FDCWD, "named", 0), run("a link", AT_FDCWD, "named", AT_SYMLINK_NOFOLLOW);
    run("flags", memory, "", -1), run("closed", 77, "", AT_EMPTY_PATH), run("directory", home, "", AT_EMPTY_PATH);
    MUST(fchmod(memory, 0600)), run("no rights", memory, "", AT_EMPTY_PATH);
    MUST(unlink("named")), MUST(unlink("other")), close(memory), close(named);
}

static volatile int tid;
static int told[2];
static void *sleeper(void *unused) {
    char c, link[64] = "";
    (void)unused;
    tid = CALL(gettid);
    ONE("its own link", readlink("/proc/thread-self", link, sizeof link - 1) > 0 && atoi(strrchr(link, '/') + 1) == tid);
    setpriority(PRIO_PROCESS, 0, 19); /* allowed to everybody, from wherever this was started */
    return (void *)read(told[0], &c, 1);
}

/* The text of a file about the thread, without what changes. */
static char *about(const char *file) {
    static char text[4096];
    char path[64];
    sprintf(path, "/proc/self/task/%d/%s", tid, file);
    int fd = open(path, O_RDONLY);
    long n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    close(fd);
    return text;
}

/* /proc/N/task/T is about the thread: its state, name, nice value, signals. */
static void threads(void) {
    pthread_t thread;
    char path[64], letter = 0;
    if (pipe(told) || pthread_create(&thread, NULL, sleeper, NULL))
        exit(1);
    for (int i = 0; i < 20000 && letter != 'S'; i++) {
        usleep(1000);
        char *end = tid ? strrchr(about("stat"), ')') : NULL;
        letter = end ? end[2] : 0;
    }
    printf("sleeps: %c\n", letter);
    sprintf(path, "/proc/self/task/%d/comm", tid);
    int fd = open(path, O_RDWR);
    ONE("named", answer(write(fd, "a longer name than fits", 23))), close(fd);
    printf("comm: %s", about("comm"));
    long number = 0, nice = 0;
    char *text = about("stat");
    sscanf(text, "%ld", &number), sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %ld", &nice);
    ONE("number", number == tid), ONE("nice", nice);
    pthread_kill(thread, 0), text = about("status");
    ONE("of the process", atoi(strstr(text, "Tgid:") + 5) == getpid()), ONE("thread", atoi(strstr(text, "\nPid:") + 5) == tid);
    printf("%.21s\n", text);
    sprintf(path, "/proc/%d/task/%d", getppid(), tid);
    ONE("of another process", answer(open(path, O_RDONLY)));
    close(told[1]), pthread_join(thread, NULL), close(told[0]);
}

static long range(int fd, int command, int type, long from, long count) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = count};
    return answer(fcntl(fd, command, &lock));
}

/* Children that hold byte 1, 2 ... of a file and wait for the one before. */
static void waiting(int fd, int children, int type) {
    int tell[2];
    char c;
    if (pipe(tell))
        exit(1);
    for (int i = 1; i <= children; i++) {
        fflush(stdout);
        if (fork() == 0) {
            range(fd, F_SETLK, type, i, 1);
            if (write(tell[1], "", 1) != 1)
                _exit(1);
            usleep(100000);
            _exit(-range(fd, F_SETLKW, F_WRLCK, i - 1, 1));
        }
    }
    for (int i = 1; i <= children; i++)
        if (read(tell[0], &c, 1) != 1)
            exit(1);
    usleep(400000);
    close(tell[0]), close(tell[1]);
}

static void *takes(void *fd) { return (void *)range((int)(long)fd, F_SETLKW, F_WRLCK, 0, 1); }
static void nothing(int signal) { (void)signal; }

/* Whoever would wait for himself is told; a lock that comes when its descriptor is gone goes with it. */
static void ranges(void) {
    int fd = MUST(open("ranges", O_RDWR | O_CREAT, 0600)), status;
    struct sigaction interrupts = {.sa_handler = nothing};
    sigaction(SIGALRM, &interrupts, NULL);
    for (int children = 1; children <= 12; children += children == 2 ? 9 : 1) {
        for (int type = F_RDLCK; type <= F_WRLCK; type++) {
            range(fd, F_SETLK, F_WRLCK, 0, 1);
            waiting(fd, children, type);
            /* Beyond eleven Linux looks no further: a signal ends that wait. */
            children > 11 ? ualarm(200000, 0) : 0;
            printf("%d children, %d: %ld\n", children, type, range(fd, F_SETLKW, F_WRLCK, children, 1));
            range(fd, F_SETLK, F_UNLCK, 0, 0);
            for (int i = 0, sum = 0; i < children; i++)
                wait(&status), sum += status, i == children - 1 ? ONE("they", sum) : 0;
        }
    }
    int other = MUST(open("ranges", O_RDWR));
    struct flock own = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    fcntl(other, 37 /* F_OFD_SETLK */, &own), ualarm(100000, 0);
    ONE("a file of one's own", range(fd, F_SETLKW, F_WRLCK, 0, 1)), close(other);
    for (int round = 0; round < 2; round++) {
        pthread_t thread;
        void *got;
        int tell[2];
        char c;
        pid_t pid = pipe(tell) ? -1 : fork();
        if (pid == 0) {
            range(fd, F_SETLK, F_WRLCK, 0, 1), c = write(tell[1], "", 1);
            pause();
        }
        c = read(tell[0], &c, 1);
        other = MUST(open("ranges", O_RDWR)), pthread_create(&thread, NULL, takes, (void *)(long)other);
        usleep(200000), round ? dup2(tell[0], other) : close(other), kill(pid, SIGKILL), waitpid(pid, NULL, 0);
        pthread_join(thread, &got), ONE("without its descriptor", (long)got);
        if (fork() == 0)
            _exit(-range(fd, F_SETLK, F_WRLCK, 0, 1));
        wait(&status), ONE("left over", status), close(tell[0]), close(tell[1]), close(other);
    }
    close(fd), MUST(unlink("ranges"));
}

int main(int argc, char **argv) {
    if (argc == 2)
        return printf("as %s\n", argv[1]) < 0 ? 1 : 6;
    begin();
    programs();
    threads();
    memories();
    descriptors();
    made_with();
    room_for_signals();
    segments();
    ranges();
    end();
    return 0;
}
