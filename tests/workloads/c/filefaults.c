/* What a fault in the middle of a copy takes and gives; vectors; holes; limits; pipes of every size. */
#include "calls.h"

static void faults(void) {
    char *end = page + 4096;
    int p[2], s[2];
    memset(buffer, 'x', sizeof buffer);
    MUST(pipe2(p, O_NONBLOCK));
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s));
    for (int i = 0; i < 2; i++) {
        int in = i ? s[1] : p[1], out = i ? s[0] : p[0];
        const char *what = i ? "socket" : "pipe";
        printf("%s\n", what);
        ONE("write 300", CALL(write, in, buffer, 300));
        ONE("read 200 across", CALL(read, out, end - 100, 200));
        ONE("rest", CALL(read, out, buffer, 1000));
        struct iovec v[3] = {{buffer, 50}, {end - 10, 100}, {buffer, 50}};
        ONE("write 300", CALL(write, in, buffer, 300));
        ONE("readv across", CALL(readv, out, v, 3));
        ONE("rest", CALL(read, out, buffer, 1000));
        ONE("write across", CALL(write, in, end - 100, 200));
        ONE("rest", CALL(read, out, buffer, 1000));
        ONE("writev across", CALL(writev, in, v, 3));
        ONE("rest", CALL(read, out, buffer, 1000));
        if (!i) {
            ONE("write 4096+100", CALL(write, in, buffer, 4196));
            ONE("read across the second", CALL(readv, out, (struct iovec[]){{buffer, 4096}, {end - 50, 100}}, 2));
            ONE("rest", CALL(read, out, buffer, 10000));
            ONE("write 4096 and a fault", CALL(writev, in, (struct iovec[]){{buffer, 4096}, {end - 50, 100}}, 2));
            ONE("rest", CALL(read, out, buffer, 10000));
        } else {
            struct msghdr m = {.msg_iov = v, .msg_iovlen = 3};
            ONE("sendmsg across", CALL(sendmsg, in, &m, 0));
            ONE("rest", CALL(read, out, buffer, 1000));
            ONE("write 300", CALL(write, in, buffer, 300));
            ONE("recvmsg across", CALL(recvmsg, out, &m, 0));
            ONE("peek", CALL(recvfrom, out, buffer, 1000, MSG_PEEK, 0, 0));
            ONE("peek across", CALL(recvfrom, out, end - 20, 1000, MSG_PEEK, 0, 0));
            ONE("rest", CALL(read, out, buffer, 1000));
            m.msg_iovlen = 1025;
            ONE("sendmsg 1025", CALL(sendmsg, in, &m, 0));
            ONE("recvmsg 1025", CALL(recvmsg, out, &m, 0));
            m.msg_iovlen = 1;
            ONE("sendmsg hole", CALL(sendmsg, in, hole, 0));
            char control[64] = {0};
            struct cmsghdr *c = (void *)control;
            m.msg_control = control, m.msg_controllen = 20;
            c->cmsg_len = CMSG_LEN(4), c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS;
            *(int *)CMSG_DATA(c) = 0;
            ONE("sendmsg rights", CALL(sendmsg, in, &m, 0));
            c->cmsg_len = 3;
            ONE("sendmsg short", CALL(sendmsg, in, &m, 0));
            c->cmsg_len = 100;
            ONE("sendmsg long", CALL(sendmsg, in, &m, 0));
            c->cmsg_len = CMSG_LEN(4), *(int *)CMSG_DATA(c) = 777;
            ONE("sendmsg closed", CALL(sendmsg, in, &m, 0));
            m.msg_control = hole;
            ONE("sendmsg control hole", CALL(sendmsg, in, &m, 0));
            ONE("recvmsg control hole", CALL(recvmsg, out, &m, 0));
            ONE("rest", CALL(read, out, buffer, 1000));
        }
    }
    int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600));
    ONE("file: write across", CALL(write, f, end - 100, 200));
    ONE("size", lseek(f, 0, SEEK_END));
    ONE("write from the hole", CALL(write, f, hole, 200));
    ONE("size", lseek(f, 0, SEEK_END));
    ONE("pread across", CALL(pread64, f, end - 50, 100, 0));
    ONE("pread into the hole", CALL(pread64, f, hole, 100, 0));
    ONE("position", lseek(f, 0, SEEK_CUR));
    int e = MUST(eventfd(5, EFD_NONBLOCK));
    ONE("eventfd: read into the hole", CALL(read, e, hole, 8));
    ONE("read", CALL(read, e, buffer, 8));
    ONE("write from the hole", CALL(write, e, hole, 8));
    ONE("write in part", CALL(write, e, end - 4, 8));
    ONE("read", CALL(read, e, buffer, 8));
    memset(buffer, 255, 8);
    ONE("write max", CALL(write, e, buffer, 8));
    buffer[0] = 254;
    ONE("write max - 1", CALL(write, e, buffer, 8));
    ONE("poll", poll_one(e, POLLIN | POLLOUT));
    ONE("write max - 1", CALL(write, e, buffer, 8));
    close(e);
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, 0);
    e = MUST(syscall(SYS_signalfd4, -1, &set, 8, O_NONBLOCK));
    raise(SIGUSR1), raise(SIGUSR2);
    ONE("signalfd: read short", CALL(read, e, buffer, 127));
    ONE("read across", CALL(read, e, end - 200, 256));
    ONE("read", CALL(read, e, buffer, 256));
    close(e);
    e = MUST(epoll_create1(0));
    struct epoll_event v = {EPOLLIN | EPOLLET, {.u64 = 7}}, got;
    int w = MUST(eventfd(1, EFD_NONBLOCK));
    MUST(epoll_ctl(e, EPOLL_CTL_ADD, w, &v));
    ONE("epoll: wait into the hole", CALL(epoll_wait, e, hole, 1, 0));
    ONE("wait", CALL(epoll_wait, e, &got, 1, 0));
    ONE("wait again", CALL(epoll_wait, e, &got, 1, 0));
    v.events = EPOLLIN | EPOLLONESHOT;
    MUST(epoll_ctl(e, EPOLL_CTL_MOD, w, &v));
    ONE("one shot into the hole", CALL(epoll_wait, e, hole, 1, 0));
    ONE("wait", CALL(epoll_wait, e, &got, 1, 0));
    ONE("wait again", CALL(epoll_wait, e, &got, 1, 0));
    v.events = EPOLLIN;
    MUST(epoll_ctl(e, EPOLL_CTL_MOD, w, &v));
    int w2 = MUST(eventfd(1, EFD_NONBLOCK));
    MUST(epoll_ctl(e, EPOLL_CTL_ADD, w2, &v));
    ONE("two, one fits", CALL(epoll_wait, e, end - 18, 2, 0));
    ONE("two", CALL(epoll_wait, e, buffer, 2, 0));
    ONE("ctl hole", CALL(epoll_ctl, e, EPOLL_CTL_ADD, w2, hole));
    ONE("ctl unknown", CALL(epoll_ctl, e, 7, w2, &v));
    ONE("ctl del hole", CALL(epoll_ctl, e, EPOLL_CTL_DEL, w2, hole));
    close(e), close(w), close(w2);
    MUST(mkdir("d", 0700));
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/file-number-%d", i);
        close(MUST(open(name, O_CREAT | O_WRONLY, 0600)));
    }
    int d = MUST(open("d", O_RDONLY | O_DIRECTORY)), all = 0;
    for (long n; (n = CALL(getdents64, d, end - 100, 400)) > 0;) {
        for (long at = 0; at < n; at += *(unsigned short *)(end - 100 + at + 16))
            all++;
    }
    ONE("getdents across: entries", all > 0);
    lseek(d, 0, SEEK_SET);
    all = 0;
    for (long n; (n = CALL(getdents64, d, buffer, 80)) > 0;)
        for (long at = 0; at < n; at += *(unsigned short *)(buffer + at + 16))
            all++;
    ONE("getdents: entries", all);
    struct stat st, up;
    int wrong = 0;
    lseek(d, 0, SEEK_SET);
    fstat(d, &st), stat(".", &up);
    for (long n; (n = CALL(getdents64, d, buffer, 4096)) > 0;)
        for (long at = 0; at < n; at += *(unsigned short *)(buffer + at + 16)) {
            struct stat it;
            fstatat(d, buffer + at + 19, &it, AT_SYMLINK_NOFOLLOW);
            wrong += it.st_ino != *(unsigned long *)(buffer + at);
        }
    ONE("getdents: wrong numbers", wrong);
    close(d);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/file-number-%d", i);
        unlink(name);
    }
    rmdir("d");
    ONE("sendfile offset hole", CALL(sendfile, p[1], f, hole, 5));
    long offset = -1;
    ONE("sendfile offset -1", CALL(sendfile, p[1], f, &offset, 5));
    offset = 1L << 50;
    ONE("sendfile offset far", CALL(sendfile, p[1], f, &offset, 5));
    offset = LONG_MAX;
    ONE("sendfile offset max", CALL(sendfile, p[1], f, &offset, 5));
    offset = 3;
    ONE("sendfile", CALL(sendfile, p[1], f, &offset, 5));
    ONE("offset", offset);
    ONE("sendfile count max", CALL(sendfile, p[1], f, &offset, -1L));
    int g = MUST(open("g", O_RDWR | O_CREAT | O_TRUNC, 0600));
    long o1 = 0, o2 = 0;
#define COPY(text, a, b, n, flags) (o1 = (a), o2 = (b), ONE("copy_file_range " text, CALL(copy_file_range, f, &o1, g, &o2, n, flags)))
    COPY("", 0, 0, 10L, 0);
    COPY("0", 0, 0, 0L, 0);
    COPY("flag", 0, 0, 10L, 1);
    COPY("from max", LONG_MAX, 0, 10L, 0);
    COPY("count max", 0, 0, -1L, 0);
    COPY("behind the end", 1000, 0, 10L, 0);
    COPY("a gap", 0, 5000, 10L, 0);
    ONE("size", lseek(g, 0, SEEK_END));
    ONE("hole", CALL(copy_file_range, f, hole, g, 0, 10L, 0));
    o1 = 0, o2 = 5;
    ONE("overlap", CALL(copy_file_range, f, &o1, f, &o2, 10L, 0));
    close(g), close(f);
    ONE("pipe2 hole", CALL(pipe2, hole, 0));
    ONE("pipe2 unknown", CALL(pipe2, buffer, 1));
    ONE("getrandom across", CALL(getrandom, end - 10, 20, 0));
    ONE("getrandom hole", CALL(getrandom, hole, 20, 0));
    ONE("getrandom unknown", CALL(getrandom, buffer, 20, 8));
    ONE("getrandom insecure random", CALL(getrandom, buffer, 20, 6));
    ONE("zero across", CALL(read, MUST(open("/dev/zero", O_RDONLY)), end - 10, 20));
    ONE("readlink hole", CALL(readlink, "/proc/self/exe", hole, 100));
    ONE("readlink 0", CALL(readlink, "/proc/self/exe", buffer, 0));
    ONE("getcwd 1", CALL(getcwd, buffer, 1));
    ONE("getcwd hole", CALL(getcwd, hole, 4096));
    close(p[0]), close(p[1]), close(s[0]), close(s[1]);
}

static void vectors(void) {
    int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600));
    static struct iovec v[1025];
    for (int i = 0; i < 1025; i++)
        v[i] = (struct iovec){buffer, 1};
    ONE("writev 1024", CALL(writev, f, v, 1024));
    ONE("writev 1025", CALL(writev, f, v, 1025));
    ONE("writev huge count", CALL(writev, f, v, 1L << 40));
    ONE("writev count 2^32", CALL(writev, f, v, 1L << 32));
    v[1].iov_len = -1L;
    ONE("writev negative length", CALL(writev, f, v, 2));
    v[0].iov_base = (void *)-4096L, v[0].iov_len = 8;
    ONE("writev kernel, negative length", CALL(writev, f, v, 2));
    v[0].iov_base = buffer, v[1].iov_len = LONG_MAX;
    ONE("writev long length", CALL(writev, f, v, 2));
    v[0].iov_len = LONG_MAX;
    ONE("writev two long", CALL(writev, f, v, 2));
    v[0] = (struct iovec){page + 4096 - 100, 0x7ffff000}, v[1] = (struct iovec){page, 0x7ffff000};
    ONE("writev sum too large", CALL(writev, f, v, 2));
    v[0] = (struct iovec){buffer, 4}, v[1] = (struct iovec){(void *)-4096L, 4};
    ONE("writev kernel second", CALL(writev, f, v, 2));
    v[1] = (struct iovec){hole, 4};
    ONE("writev hole second", CALL(writev, f, v, 2));
    ONE("readv hole second", (lseek(f, 0, SEEK_SET), CALL(readv, f, v, 2)));
    v[0] = (struct iovec){(void *)-4096L, 0};
    ONE("writev kernel, empty", CALL(writev, f, v, 1));
    v[0] = (struct iovec){NULL, 0};
    ONE("writev NULL, empty", CALL(writev, f, v, 1));
    close(f);
}

static void holes(void) {
    struct stat s;
    int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600));
#define BLOCKS(text) (fstat(f, &s), printf("%s: size %ld blocks %ld\n", text, (long)s.st_size, (long)s.st_blocks))
    BLOCKS("empty");
    MUST(ftruncate(f, 1 << 20));
    BLOCKS("hole");
    MUST(pwrite(f, "x", 1, 40960));
    BLOCKS("one page");
    MUST(pwrite(f, buffer, 8192, 81920));
    BLOCKS("three pages");
    static const long at[] = {0, 40960, 40961, 45056, 81919, 81920, 90112, 1 << 20, (1 << 20) - 1, -1};
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++)
        printf("from %ld: data %ld hole %ld\n", at[i], CALL(lseek, f, at[i], SEEK_DATA), CALL(lseek, f, at[i], SEEK_HOLE));
    MUST(fallocate(f, 3, 40960, 4096));
    BLOCKS("punched");
    ftruncate(f, 0);
    BLOCKS("cut");
    close(f);
    unlink("f");
}

static volatile int seen, seen_code;
static void note(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    seen++, seen_code = info->si_code;
}

static void limits(void) {
    struct rlimit old, r;
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigaction(SIGXFSZ, &action, 0);
    getrlimit(RLIMIT_FSIZE, &old);
    r = old, r.rlim_cur = 10;
    setrlimit(RLIMIT_FSIZE, &r);
    int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600)), g = MUST(open("/proc/self/exe", O_RDONLY)), m = MUST(memfd_create("m", 0));
#define SEEN(text, ...)                                                                                                \
    do {                                                                                                               \
        seen = 0;                                                                                                      \
        long r_ = (long)(__VA_ARGS__);                                                                                 \
        printf("%s: %ld, signals %d\n", text, r_, seen);                                                               \
    } while (0)
    SEEN("write 26", CALL(write, f, buffer, 26));
    SEEN("write 1", CALL(write, f, buffer, 1));
    SEEN("write 0", CALL(write, f, buffer, 0));
    SEEN("pwrite inside", CALL(pwrite64, f, buffer, 5, 0));
    SEEN("pwrite across", CALL(pwrite64, f, buffer, 15, 8));
    SEEN("pwrite behind", CALL(pwrite64, f, buffer, 5, 100));
    SEEN("writev across", (lseek(f, 5, SEEK_SET), CALL(writev, f, (struct iovec[]){{buffer, 3}, {buffer, 20}}, 2)));
    SEEN("ftruncate 11", CALL(ftruncate, f, 11));
    SEEN("ftruncate 10", CALL(ftruncate, f, 10));
    SEEN("truncate 11", CALL(truncate, "f", 11));
    SEEN("fallocate 11", CALL(fallocate, f, 0, 0, 11));
    SEEN("fallocate keep 11", CALL(fallocate, f, 1, 0, 11) == 0 || 1);
    ftruncate(f, 0), lseek(f, 0, SEEK_SET);
    ONE("sendfile 26", CALL(sendfile, f, g, 0, 26));
    SEEN("sendfile 26", CALL(sendfile, f, g, 0, 26));
    SEEN("memfd write", CALL(write, m, buffer, 26));
    SEEN("memfd write", CALL(write, m, buffer, 26));
    SEEN("memfd ftruncate", CALL(ftruncate, m, 4096));
    lseek(f, 0, SEEK_SET);
    int a = MUST(open("f", O_WRONLY | O_APPEND));
    SEEN("append", CALL(write, a, buffer, 26));
    SEEN("append", CALL(write, a, buffer, 26));
    int p[2];
    pipe2(p, O_NONBLOCK);
    SEEN("pipe", CALL(write, p[1], buffer, 26));
    SEEN("null", CALL(write, MUST(open("/dev/null", O_WRONLY)), buffer, 26));
    close(p[0]), close(p[1]), close(a), close(f), close(m), close(g);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    getrlimit(RLIMIT_NOFILE, &old);
    r = old, r.rlim_cur = 20;
    setrlimit(RLIMIT_NOFILE, &r);
    int last = -1, n;
    while ((n = dup(0)) >= 0)
        last = n;
    printf("last descriptor %d, errno %d\n", last, errno);
    ONE("open", CALL(open, "f", O_RDONLY));
    ONE("open creat", CALL(open, "new", O_CREAT | O_RDWR, 0600));
    ONE("created", CALL(unlink, "new"));
    ONE("pipe", CALL(pipe2, buffer, 0));
    ONE("socketpair", CALL(socketpair, AF_UNIX, SOCK_STREAM, 0, buffer));
    ONE("eventfd", CALL(eventfd2, 0, 0));
    ONE("timerfd", CALL(timerfd_create, 0, 0));
    ONE("signalfd", CALL(signalfd4, -1, buffer, 8, 0));
    ONE("epoll", CALL(epoll_create1, 0));
    ONE("memfd", CALL(memfd_create, "x", 0));
    ONE("dup2 19", CALL(dup2, 0, 19));
    ONE("dup2 20", CALL(dup2, 0, 20));
    ONE("dup3 20", CALL(dup3, 0, 20, 0));
    ONE("F_DUPFD 19", CALL(fcntl, 0, F_DUPFD, 19L));
    ONE("F_DUPFD 20", CALL(fcntl, 0, F_DUPFD, 20L));
    struct pollfd v[21];
    for (int i = 0; i < 21; i++)
        v[i] = (struct pollfd){-1, 0, 0};
    ONE("poll 20", CALL(poll, v, 20, 0));
    ONE("poll 21", CALL(poll, v, 21, 0));
    fd_set set;
    FD_ZERO(&set);
    ONE("select 1000", CALL(select, 1000, &set, 0, 0, (&(struct timeval){0, 0})));
    close(last), close(last - 1);
    ONE("pipe in two", CALL(pipe2, buffer, 0));
    for (int i = 4; i < 20; i++)
        close(i);
    setrlimit(RLIMIT_NOFILE, &old);
    ONE("getrlimit unknown", CALL(getrlimit, 16, &r));
    r.rlim_cur = 5, r.rlim_max = 4;
    ONE("setrlimit wrong", CALL(setrlimit, RLIMIT_CORE, &r));
    ONE("prlimit pid", CALL(prlimit64, -1, RLIMIT_CORE, 0, &r));
    ONE("prlimit hole", CALL(prlimit64, 0, RLIMIT_CORE, hole, 0));
    ONE("prlimit to hole", CALL(prlimit64, 0, RLIMIT_CORE, 0, hole));
    ONE("prlimit nothing", CALL(prlimit64, 0, RLIMIT_CORE, 0, 0));
    unlink("f");
}

static long fill(int fd, int size) {
    long sum = 0, n;
    while ((n = CALL(write, fd, buffer, size)) > 0)
        sum += n;
    return sum;
}
static void pipes(void) {
    int p[2];
    static const long sizes[] = {1, 4096, 4097, 8192, 10000, 32768, 65536, 65537, 1 << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        MUST(pipe2(p, O_NONBLOCK));
        long r = CALL(fcntl, p[0], F_SETPIPE_SZ, sizes[i]);
        printf("size %ld: %ld, get %ld", sizes[i], r, CALL(fcntl, p[1], F_GETPIPE_SZ));
        printf(", fill %ld, poll %ld, shrink %ld", fill(p[1], 4096), poll_one(p[1], POLLOUT), CALL(fcntl, p[0], F_SETPIPE_SZ, 4096L));
        printf(", read %ld", CALL(read, p[0], buffer, 4095));
        printf(", poll %ld", poll_one(p[1], POLLOUT));
        printf(", read %ld, poll %ld\n", CALL(read, p[0], buffer, 1), poll_one(p[1], POLLOUT));
        close(p[0]), close(p[1]);
    }
    MUST(pipe2(p, O_NONBLOCK));
    ONE("fill by one", fill(p[1], 1));
    ONE("grow", CALL(fcntl, p[1], F_SETPIPE_SZ, 1L << 17));
    ONE("fill by 5000", fill(p[1], 5000));
    ONE("write 100000", CALL(write, p[1], buffer, 100000));
    ONE("read all", CALL(read, p[0], buffer, sizeof buffer));
    ONE("shrink to one", CALL(fcntl, p[1], F_SETPIPE_SZ, 1L));
    ONE("write 5000", CALL(write, p[1], buffer, 5000));
    ONE("read all", CALL(read, p[0], buffer, sizeof buffer));
    int n;
    ONE("FIONREAD", (CALL(write, p[1], buffer, 77), ioctl(p[0], FIONREAD, &n), n));
    ONE("FIONREAD of the writer", (ioctl(p[1], FIONREAD, &n), n));
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    ONE("write to nobody", CALL(write, p[1], buffer, 1));
    ONE("write 0 to nobody", CALL(write, p[1], buffer, 0));
    ONE("poll", poll_one(p[1], POLLOUT));
    close(p[1]);
    MUST(pipe2(p, O_NONBLOCK | O_DIRECT));
    ONE("packets: write 10", CALL(write, p[1], buffer, 10));
    ONE("write 20", CALL(write, p[1], buffer, 20));
    ONE("read 5", CALL(read, p[0], buffer, 5));
    ONE("read 100", CALL(read, p[0], buffer, 100));
    ONE("read 100", CALL(read, p[0], buffer, 100));
    ONE("write 5000", CALL(write, p[1], buffer, 5000));
    ONE("read", CALL(read, p[0], buffer, 10000));
    ONE("read", CALL(read, p[0], buffer, 10000));
    ONE("flags", CALL(fcntl, p[1], F_GETFL)), ONE("of the other end", CALL(fcntl, p[0], F_GETFL));
    close(p[0]), close(p[1]);
    static const int flags[] = {O_CLOEXEC, O_NONBLOCK, O_DIRECT, O_RDWR, O_CREAT, 0x40000000};
    for (int i = 0; i < 6; i++)
        printf("pipe2 %x %ld, eventfd2 %ld, epoll_create1 %ld, timerfd_create %ld, signalfd4 %ld, memfd_create %ld, dup3 %ld\n", flags[i],
               CALL(pipe2, p, flags[i]) , dup_close(CALL(eventfd2, 0, flags[i])), dup_close(CALL(epoll_create1, flags[i])),
               dup_close(CALL(timerfd_create, 0, flags[i])), dup_close(CALL(signalfd4, -1, page, 8, flags[i])),
               dup_close(CALL(memfd_create, "x", flags[i] & ~4)), dup_close(CALL(dup3, 0, 600, flags[i])));
    close_all();
    ONE("signalfd size 4", CALL(signalfd4, -1, page, 4, 0));
    ONE("signalfd hole", CALL(signalfd4, -1, hole, 8, 0));
    for (int i = -2; i < 14; i++)
        printf("timerfd_create clock %d: %ld\n", i, dup_close(CALL(timerfd_create, i, 0)));
    ONE("epoll_create 0", CALL(epoll_create, 0));
    ONE("epoll_create -1", CALL(epoll_create, -1));
    ONE("eventfd semaphore", dup_close(CALL(eventfd2, 3, EFD_SEMAPHORE)));
    ONE("close_range unknown", CALL(close_range, 100, 200, 8));
    ONE("close_range backwards", CALL(close_range, 200, 100, 0));
    ONE("close_range far", CALL(close_range, 1000, ~0u, 0));
    char name[300];
    memset(name, 'n', sizeof name), name[249] = 0;
    ONE("memfd 249", dup_close(CALL(memfd_create, name, 0)));
    name[249] = 'n', name[250] = 0;
    ONE("memfd 250", dup_close(CALL(memfd_create, name, 0)));
    ONE("memfd hole", dup_close(CALL(memfd_create, hole, 0)));
    ONE("memfd exec and not", CALL(memfd_create, "x", 0x18));
}

/* Copies at and behind the ends of files, of numbers and of the limit; room set aside. */
static void copies(void) {
    static const long places[] = {0, 50, 9950, 9990, 10000, 20000, -1, -50, -100, -101, LONG_MIN, LONG_MAX, LONG_MAX - 50};
    static const long counts[] = {0, 1, 100, 20000, LONG_MAX, -1};
    enum { PLACES = sizeof places / sizeof *places };
    int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644)), g = MUST(open("g", O_RDWR | O_CREAT | O_TRUNC, 0644));
    struct rlimit old, limit;
    struct sigaction act = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigaction(SIGXFSZ, &act, NULL);
    getrlimit(RLIMIT_FSIZE, &old), limit = old;
    for (int limited = 0; limited < 2; limited++) {
        for (int i = 0; i < PLACES * PLACES * 6; i++) {
            long from = places[i % PLACES], to = places[i / PLACES % PLACES], count = counts[i / PLACES / PLACES];
            /* How large a file may be depends on what it lies in. */
            if (to >= LONG_MAX - 50)
                continue;
            MUST(ftruncate(f, 0)), MUST(pwrite(f, buffer, 10000, 0)), MUST(ftruncate(g, 0));
            limit.rlim_cur = limited ? 5000 : old.rlim_cur, setrlimit(RLIMIT_FSIZE, &limit);
            long a = from, b = to, c = from, d = to, before = seen;
            long other = CALL(copy_file_range, f, &a, g, &b, count, 0), same = CALL(copy_file_range, f, &c, f, &d, count, 0);
            printf("%ld to %ld, %ld: %ld (%ld %ld), itself %ld (%ld %ld), signals %ld\n", from, to, count, other, a, b, same, c, d, seen - before);
            setrlimit(RLIMIT_FSIZE, &old);
        }
    }
    limit.rlim_cur = 5000;
    MUST(ftruncate(f, 0)), MUST(pwrite(f, buffer, 10000, 0)), MUST(ftruncate(g, 0)), setrlimit(RLIMIT_FSIZE, &limit);
    for (int at = 4990; at <= 5000; at += 5) {
        long before = seen;
        lseek(g, at, SEEK_SET);
        printf("sendfile to %d: %ld", at, CALL(sendfile, g, f, (off_t[]){0}, 100L)), printf(", signals %ld\n", seen - before);
    }
    int id = CALL(shmget, 0, 100000, 01600);
    ONE("shared memory", id < 0 ? id : 0), CALL(shmctl, id, 0, 0);
    static const long sizes[] = {4999, 5000, 5001, 9000, 10000, 10001, 1L << 40};
    for (int keep = 0; keep < 2; keep++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            long before = seen;
            printf("aside %d %ld: %ld", keep, sizes[i], CALL(fallocate, f, keep, 0, sizes[i])), printf(" %ld", CALL(fallocate, g, keep, 4000L, sizes[i]));
            printf(", signals %ld\n", seen - before);
        }
    setrlimit(RLIMIT_FSIZE, &old);
    ONE("more than there is", CALL(fallocate, f, 0, 0L, 1L << 40)), ONE("within", CALL(fallocate, f, 0, 0L, 20000L)), ONE("long", lseek(f, 0, SEEK_END));
    close_all();
}

/* What copies look at first, and where they store how far they came. */
static void orders(void) {
    char *nowhere = (char *)4096, *fixed = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int f = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0600)), g = MUST(open("g", O_RDWR | O_CREAT | O_TRUNC, 0600)), counter = MUST(eventfd(0, 0)), p[2];
    MUST(pipe(p)), MUST(pwrite(f, "hello world 123456", 18, 0));
    const struct { const char *name; int fd; } ends[] = {{"file", f}, {"directory", MUST(open(".", O_RDONLY))}, {"to read", MUST(open("f", O_RDONLY))},
        {"to append", MUST(open("g", O_RDWR | O_APPEND))}, {"to write", MUST(open("g", O_WRONLY))}, {"pipe", p[1]}, {"closed", 999}};
    for (int i = 0; i < 7; i++)
        for (int flags = 0; flags < 2; flags++) {
            printf("copy_file_range, %s, %d: from %ld to %ld", ends[i].name, flags, CALL(copy_file_range, ends[i].fd, nowhere, g, 0, 5, flags),
                   CALL(copy_file_range, f, 0, ends[i].fd, nowhere, 5, flags));
            printf(", from nowhere else %ld %ld\n", CALL(copy_file_range, ends[i].fd, 0, g, nowhere, 5, flags), CALL(copy_file_range, ends[i].fd, 0, g, 0, 5, flags | 2));
        }
    for (long at = 10; at < 20; at += 8)
        for (int count = 0; count < 6; count += 5)
            for (int to = 0; to < 2; to++) {
                MUST(mprotect(fixed, 4096, PROT_READ | PROT_WRITE)), *(long *)fixed = at, MUST(mprotect(fixed, 4096, PROT_READ));
                lseek(f, at, SEEK_SET), lseek(g, 0, SEEK_SET), MUST(ftruncate(g, 0));
                long done = to ? CALL(copy_file_range, f, 0, g, fixed, count, 0) : CALL(copy_file_range, f, fixed, g, 0, count, 0);
                printf("place that stays, %ld %d %d: %ld, at %ld %ld of %ld\n", at, count, to, done, (long)lseek(f, 0, SEEK_CUR), (long)lseek(g, 0, SEEK_CUR), (long)lseek(g, 0, SEEK_END));
            }
    const struct { const char *name; int fd; } sinks[] = {{"counter", counter}, {"null", MUST(open("/dev/null", O_WRONLY))}, {"full", MUST(open("/dev/full", O_WRONLY))},
        {"name", MUST(open("/proc/self/comm", O_WRONLY))}, {"file", g}};
    for (int i = 0; i < 5; i++)
        for (int count = 0; count < 9; count += 8)
            for (int at = 0; at < 19; at += 18)
                lseek(f, at, SEEK_SET), printf("sendfile to %s, %d from %d: %ld", sinks[i].name, count, at, CALL(sendfile, sinks[i].fd, f, 0, count)), printf(" at %ld\n", (long)lseek(f, 0, SEEK_CUR));
    munmap(fixed, 4096), close_all();
}

int main(void) {
    begin();
    faults();
    vectors();
    holes();
    limits();
    copies();
    orders();
    pipes();
    unlink("f"), unlink("g");
    end();
    return 0;
}
