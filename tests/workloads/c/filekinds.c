/* Calls on files with a descriptor of every kind, and with arguments at and behind their limits. */
#include "calls.h"

enum { REG, RDONLY, WRONLY, APPEND, UNLINKED, DIRECTORY, PATH, PATH_LINK, PIPE_R, PIPE_W, FIFO, SOCKET, EVENT, TIMER, SIGNAL,
       EPOLL, MEMFD, ZERO, NUL, PROC, CLOSED, NEGATIVE, KINDS };
static const char *const names[KINDS] = {"regular", "rdonly", "wronly", "append", "unlinked", "directory", "path", "path-link",
    "pipe-r", "pipe-w", "fifo", "socket", "eventfd", "timerfd", "signalfd", "epoll", "memfd", "zero", "null", "proc", "closed",
    "negative"};
static int fds[KINDS], peer;
static unsigned without; /* kinds that the next line leaves out: what Linux answers depends on its version or on its file systems */
#define WITHOUT(...) (without = (unsigned)(__VA_ARGS__))
#define BIT(kind) (1u << (kind))
enum { NAMELESS = 1 << EVENT | 1 << TIMER | 1 << SIGNAL | 1 << EPOLL };

static void set_up(void) {
    int pair[2];
    for (int i = 0; i < KINDS; i++)
        fds[i] = -1;
    fds[REG] = MUST(open("f", O_RDWR | O_CREAT | O_TRUNC, 0644));
    MUST(write(fds[REG], "0123456789", 10));
    MUST(lseek(fds[REG], 0, SEEK_SET));
    fds[RDONLY] = MUST(open("f", O_RDONLY));
    fds[WRONLY] = MUST(open("f", O_WRONLY));
    fds[APPEND] = MUST(open("f", O_RDWR | O_APPEND));
    fds[UNLINKED] = MUST(open("u", O_RDWR | O_CREAT, 0600));
    MUST(unlink("u"));
    fds[DIRECTORY] = MUST(open(".", O_RDONLY | O_DIRECTORY));
    fds[PATH] = MUST(open("f", O_PATH));
    unlink("l");
    MUST(symlink("f", "l"));
    fds[PATH_LINK] = MUST(open("l", O_PATH | O_NOFOLLOW));
    MUST(pipe2(pair, O_NONBLOCK));
    fds[PIPE_R] = pair[0], fds[PIPE_W] = pair[1];
    unlink("p");
    MUST(mkfifo("p", 0600));
    fds[FIFO] = MUST(open("p", O_RDWR | O_NONBLOCK));
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    fds[SOCKET] = pair[0], peer = pair[1];
    fds[EVENT] = MUST(eventfd(0, EFD_NONBLOCK));
    fds[TIMER] = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    fds[SIGNAL] = MUST(syscall(SYS_signalfd4, -1, &set, 8, O_NONBLOCK));
    fds[EPOLL] = MUST(epoll_create1(0));
    fds[MEMFD] = MUST(memfd_create("m", MFD_ALLOW_SEALING));
    fds[ZERO] = MUST(open("/dev/zero", O_RDWR));
    fds[NUL] = MUST(open("/dev/null", O_RDWR));
    fds[PROC] = MUST(open("/proc/self/status", O_RDONLY));
    fds[CLOSED] = 777;
}

static void tear_down(void) {
    for (int i = 0; i < CLOSED; i++)
        close(fds[i]);
    close(peer);
}

/* Each line: a call, and its answers for all kinds of descriptors. */
#define EVERY(text, ...)                                                                                               \
    do {                                                                                                               \
        set_up();                                                                                                      \
        printf("%s:", text);                                                                                           \
        for (int kind = 0; kind < KINDS; kind++) {                                                                     \
            int fd = fds[kind];                                                                                        \
            if (without & BIT(kind))                                                                                   \
                continue;                                                                                              \
            (void)fd;                                                                                                  \
            printf(" %s=%ld", names[kind], (long)(__VA_ARGS__));                                                       \
        }                                                                                                              \
        printf("\n");                                                                                                  \
        without = 0;                                                                                                   \
        tear_down();                                                                                                   \
    } while (0)

static long fstat_type(int fd) {
    struct stat s;
    long r = CALL(fstat, fd, &s);
    return r ? r : (long)(s.st_mode >> 12);
}
static long fstat_size(int fd) {
    struct stat s;
    long r = CALL(fstat, fd, &s);
    return r ? r : (long)s.st_size;
}
static long path_open(int fd, int flags) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    long r = CALL(open, path, flags | O_NONBLOCK, 0);
    if (r < 0)
        return r;
    close(r);
    return 1;
}
static long path_stat(int fd, int follow) {
    char path[64];
    struct stat s, t;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    long r = CALL(newfstatat, AT_FDCWD, path, &s, follow ? 0 : AT_SYMLINK_NOFOLLOW);
    if (r < 0)
        return r;
    fstat(fd, &t);
    return (s.st_mode >> 12) * 10 + (s.st_ino == t.st_ino);
}
static long epoll_add(int fd) {
    int e = epoll_create1(0);
    struct epoll_event v = {EPOLLIN | EPOLLOUT, {0}}, out;
    long r = CALL(epoll_ctl, e, EPOLL_CTL_ADD, fd, &v);
    if (r == 0) {
        r = CALL(epoll_wait, e, &out, 1, 0);
        if (r == 1)
            r = 1000 + out.events;
    }
    close(e);
    return r;
}
static long to_pipe(int from, int count) {
    int p[2];
    MUST(pipe2(p, O_NONBLOCK));
    long r = CALL(sendfile, p[1], from, NULL, count);
    close(p[0]), close(p[1]);
    return r;
}
static long from_file(int to, int count) {
    int f = MUST(open("/proc/self/exe", O_RDONLY));
    long r = CALL(sendfile, to, f, NULL, count);
    close(f);
    return r;
}
static long copy_to(int to) {
    int f = MUST(open("/proc/self/exe", O_RDONLY));
    long r = CALL(copy_file_range, f, NULL, to, NULL, 5, 0);
    close(f);
    return r == -EXDEV ? 5 : r;
}
static long copy_from(int from) {
    int f = MUST(open("c", O_RDWR | O_CREAT | O_TRUNC, 0600));
    long r = CALL(copy_file_range, from, NULL, f, NULL, 5, 0);
    close(f);
    return r == -EXDEV ? 5 : r;
}
static long map_one(int fd, int prot, int flags) {
    long r = CALL(mmap, 0, 4096, prot, flags, fd, 0);
    if (r < 0 && r > -4096)
        return r;
    munmap((void *)r, 4096);
    return 1;
}
static long get_lock(int fd, int command, int type) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET};
    return CALL(fcntl, fd, command, &l);
}

static void every_kind(void) {
    EVERY("read 0", CALL(read, fd, buffer, 0));
    EVERY("read 1", CALL(read, fd, buffer, 1));
    EVERY("read 8", CALL(read, fd, buffer, 8));
    EVERY("read 200", CALL(read, fd, buffer, 200) > 10 ? 11 : CALL(read, fd, buffer, 200));
    EVERY("read at a hole", CALL(read, fd, hole, 8));
    EVERY("read at NULL, 0", CALL(read, fd, NULL, 0));
    EVERY("read to the kernel", CALL(read, fd, -4096L, 8));
    EVERY("read too much", CALL(read, fd, buffer, -1L));
    EVERY("write 0", CALL(write, fd, buffer, 0));
    EVERY("write 1", CALL(write, fd, buffer, 1));
    EVERY("write 8", CALL(write, fd, buffer, 8));
    EVERY("write from a hole", CALL(write, fd, hole, 8));
    EVERY("write from the kernel", CALL(write, fd, -4096L, 8));
    EVERY("write too much", CALL(write, fd, buffer, -1L));
    struct iovec v[4] = {{buffer, 4}, {buffer, 0}, {hole, 0}, {buffer, 4}};
    EVERY("readv", CALL(readv, fd, v, 4));
    EVERY("readv none", CALL(readv, fd, NULL, 0));
    EVERY("readv -1", CALL(readv, fd, v, -1));
    EVERY("readv at a hole", CALL(readv, fd, hole, 1));
    WITHOUT(BIT(EVENT));
    EVERY("writev", CALL(writev, fd, v, 4));
    EVERY("writev none", CALL(writev, fd, v, 0));
    EVERY("writev 1025", CALL(writev, fd, v, 1025));
    EVERY("pread", CALL(pread64, fd, buffer, 4, 2));
    EVERY("pread 0", CALL(pread64, fd, buffer, 0, 2));
    EVERY("pread at -1", CALL(pread64, fd, buffer, 4, -1L));
    EVERY("pread at the end of the world", CALL(pread64, fd, buffer, 4, LONG_MAX));
    WITHOUT(BIT(PROC));
    EVERY("pwrite", CALL(pwrite64, fd, buffer, 4, 2));
    WITHOUT(BIT(PROC));
    EVERY("pwrite 0", CALL(pwrite64, fd, buffer, 0, 2));
    EVERY("pwrite at -1", CALL(pwrite64, fd, buffer, 4, -1L));
    WITHOUT(BIT(PROC));
    EVERY("pwrite at the end of the world", CALL(pwrite64, fd, buffer, 4, LONG_MAX));
    EVERY("preadv", CALL(preadv, fd, v, 4, 2L, 0L));
    EVERY("preadv at -1", CALL(preadv, fd, v, 4, -1L, -1L));
    EVERY("preadv2 at -1", CALL(preadv2, fd, v, 4, -1L, -1L, 0));
    EVERY("preadv2 at -2", CALL(preadv2, fd, v, 4, -2L, -1L, 0));
    EVERY("preadv2 unknown", CALL(preadv2, fd, v, 4, 0L, 0L, 0x40000000));
    EVERY("preadv2 nowait", CALL(preadv2, fd, v, 4, -1L, -1L, 8) == -EOPNOTSUPP ? 0 : 1);
    WITHOUT(BIT(PROC));
    EVERY("pwritev", CALL(pwritev, fd, v, 4, 2L, 0L));
    EVERY("pwritev at -1", CALL(pwritev, fd, v, 4, -1L, -1L));
    WITHOUT(BIT(EVENT));
    EVERY("pwritev2 at -1", CALL(pwritev2, fd, v, 4, -1L, -1L, 0));
    WITHOUT(BIT(PROC));
    EVERY("pwritev2 append", CALL(pwritev2, fd, v, 4, 0L, 0L, 16));
    WITHOUT(BIT(PROC));
    EVERY("pwritev2 unknown", CALL(pwritev2, fd, v, 4, 0L, 0L, 0x40000000));
    static const long offsets[] = {0, 3, -1, 5000, LONG_MAX, LONG_MIN};
    for (int whence = -1; whence < 6; whence++)
        for (int i = 0; i < 6; i++) {
            char text[64];
            snprintf(text, sizeof text, "lseek %ld whence %d", offsets[i], whence);
            if (whence == 3 || whence == 4) {
                if (offsets[i] > 3) continue;
                EVERY(text, kind == DIRECTORY || kind == PROC || kind == ZERO || kind == NUL ? 0 : CALL(lseek, fd, offsets[i], whence));
            } else
                EVERY(text, whence == 2 && (kind == DIRECTORY || kind == PROC) ? 0 : kind == DIRECTORY && offsets[i] == LONG_MAX ? 0 : CALL(lseek, fd, offsets[i], whence));
        }
    EVERY("ftruncate 5", CALL(ftruncate, fd, 5L));
    EVERY("ftruncate -1", CALL(ftruncate, fd, -1L));
    EVERY("fallocate", CALL(fallocate, fd, 0, 0L, 100L));
    EVERY("fallocate keep", CALL(fallocate, fd, 1, 0L, 100L));
    EVERY("fallocate punch", CALL(fallocate, fd, 3, 0L, 100L));
    EVERY("fallocate punch alone", CALL(fallocate, fd, 2, 0L, 100L));
    EVERY("fallocate unknown", CALL(fallocate, fd, 0x1000, 0L, 100L));
    EVERY("fallocate none", CALL(fallocate, fd, 0, 0L, 0L));
    EVERY("fallocate -1", CALL(fallocate, fd, 0, -1L, 1L));
    EVERY("fallocate too far", CALL(fallocate, fd, 0, LONG_MAX, 1L));
    EVERY("fsync", CALL(fsync, fd));
    EVERY("fdatasync", CALL(fdatasync, fd));
    EVERY("syncfs", CALL(syncfs, fd));
    EVERY("sync_file_range", CALL(sync_file_range, fd, 0L, 0L, 0));
    EVERY("sync_file_range unknown", CALL(sync_file_range, fd, 0L, 0L, 8));
    EVERY("sync_file_range -1", CALL(sync_file_range, fd, -1L, 0L, 1));
    EVERY("fadvise", CALL(fadvise64, fd, 0L, 0L, 0));
    EVERY("fadvise unknown", CALL(fadvise64, fd, 0L, 0L, 6));
    EVERY("fadvise -1", CALL(fadvise64, fd, 0L, -1L, 0));
    EVERY("readahead", CALL(readahead, fd, 0L, 10L) );
    WITHOUT(NAMELESS);
    EVERY("flock", CALL(flock, fd, 6));
    EVERY("flock unknown", CALL(flock, fd, 16));
    EVERY("flock 0", CALL(flock, fd, 0));
    EVERY("flock both", CALL(flock, fd, 3));
    EVERY("F_GETFL", CALL(fcntl, fd, F_GETFL));
    EVERY("F_SETFL", CALL(fcntl, fd, F_SETFL, O_NONBLOCK | O_CREAT | O_RDWR | 0x40000000));
    EVERY("F_SETFL, F_GETFL", (CALL(fcntl, fd, F_SETFL, O_NONBLOCK), CALL(fcntl, fd, F_GETFL)));
    EVERY("F_GETFD", CALL(fcntl, fd, F_GETFD));
    EVERY("F_SETFD", CALL(fcntl, fd, F_SETFD, -1L));
    EVERY("F_DUPFD", dup_close(CALL(fcntl, fd, F_DUPFD, 3)));
    EVERY("F_DUPFD -1", CALL(fcntl, fd, F_DUPFD, -1L));
    EVERY("F_GETPIPE_SZ", CALL(fcntl, fd, F_GETPIPE_SZ));
    EVERY("F_SETPIPE_SZ 0", CALL(fcntl, fd, F_SETPIPE_SZ, 0L));
    EVERY("F_SETPIPE_SZ 1", CALL(fcntl, fd, F_SETPIPE_SZ, 1L));
    EVERY("F_SETPIPE_SZ 5000", CALL(fcntl, fd, F_SETPIPE_SZ, 5000L));
    EVERY("F_SETPIPE_SZ -1", CALL(fcntl, fd, F_SETPIPE_SZ, -1L));
    EVERY("F_GET_SEALS", kind == REG || kind == RDONLY || kind == WRONLY || kind == APPEND || kind == UNLINKED ? 0 : CALL(fcntl, fd, F_GET_SEALS));
    EVERY("F_ADD_SEALS", CALL(fcntl, fd, F_ADD_SEALS, 2L) == 0 ? 0 : kind == MEMFD);
    EVERY("F_ADD_SEALS unknown", kind != MEMFD ? 0 : CALL(fcntl, fd, F_ADD_SEALS, 64L));
    EVERY("F_GETLK", get_lock(fd, F_GETLK, F_WRLCK));
    EVERY("F_GETLK unlock", get_lock(fd, F_GETLK, F_UNLCK));
    EVERY("F_SETLK read", get_lock(fd, F_SETLK, F_RDLCK));
    EVERY("F_SETLK write", get_lock(fd, F_SETLK, F_WRLCK));
    EVERY("F_SETLK unlock", get_lock(fd, F_SETLK, F_UNLCK));
    EVERY("F_SETLK unknown", get_lock(fd, F_SETLK, 7));
    WITHOUT(NAMELESS);
    EVERY("F_OFD_SETLK write", get_lock(fd, F_OFD_SETLK, F_WRLCK));
    EVERY("F_GETOWN", CALL(fcntl, fd, F_GETOWN));
    EVERY("F_SETOWN", CALL(fcntl, fd, F_SETOWN, 0L));
    EVERY("fcntl unknown", CALL(fcntl, fd, 99, 0L));
    int n;
    WITHOUT(NAMELESS);
    EVERY("FIONREAD", kind == PROC || kind == DIRECTORY ? 0 : CALL(ioctl, fd, FIONREAD, &n));
    EVERY("FIONREAD value", kind == PROC || kind == DIRECTORY ? 0 : (n = -5, CALL(ioctl, fd, FIONREAD, &n), n));
    EVERY("FIONBIO", (n = 1, CALL(ioctl, fd, FIONBIO, &n)));
    EVERY("FIONBIO hole", CALL(ioctl, fd, FIONBIO, hole));
    EVERY("FIOCLEX", CALL(ioctl, fd, FIOCLEX));
    WITHOUT(NAMELESS);
    EVERY("TCGETS", CALL(ioctl, fd, TCGETS, buffer));
    WITHOUT(NAMELESS);
    EVERY("TIOCGWINSZ", CALL(ioctl, fd, TIOCGWINSZ, buffer));
    WITHOUT(NAMELESS);
    EVERY("ioctl unknown", CALL(ioctl, fd, 0x12345678, buffer));
    EVERY("fstat", fstat_type(fd));
    EVERY("fstat size", kind == DIRECTORY ? 0 : fstat_size(fd));
    EVERY("fstat hole", CALL(fstat, fd, hole));
    EVERY("fstatat empty", CALL(newfstatat, fd, "", buffer, AT_EMPTY_PATH));
    EVERY("fstatat empty, no flag", CALL(newfstatat, fd, "", buffer, 0));
    EVERY("fstatat relative", CALL(newfstatat, fd, "f", buffer, 0));
    EVERY("fstatat absolute", CALL(newfstatat, fd, "/", buffer, 0));
    EVERY("fstatat unknown", CALL(newfstatat, fd, "/", buffer, 0x8000));
    EVERY("statx empty", CALL(statx, fd, "", AT_EMPTY_PATH, 0x7ff, buffer));
    EVERY("statx reserved", CALL(statx, fd, "", AT_EMPTY_PATH, 0x80000000u, buffer));
    EVERY("statx both syncs", CALL(statx, fd, "", AT_EMPTY_PATH | 0x6000, 0, buffer));
    EVERY("fstatfs", CALL(fstatfs, fd, buffer));
    WITHOUT(NAMELESS);
    EVERY("fchmod", kind == PROC || kind == ZERO || kind == NUL ? 0 : CALL(fchmod, fd, 0644));
    EVERY("fchdir", CALL(fchdir, fd));
    EVERY("getdents", kind == DIRECTORY ? CALL(getdents64, fd, buffer, 4096) > 0 : CALL(getdents64, fd, buffer, 4096));
    EVERY("getdents small", CALL(getdents64, fd, buffer, 20));
    EVERY("getdents hole", CALL(getdents64, fd, hole, 4096));
    EVERY("old getdents", kind == DIRECTORY ? CALL(getdents, fd, buffer, 4096) > 0 : CALL(getdents, fd, buffer, 4096));
    EVERY("openat relative", dup_close(CALL(openat, fd, "f", O_RDONLY)));
    EVERY("mkdirat exists", CALL(mkdirat, fd, "f", 0700));
    WITHOUT(BIT(CLOSED) | BIT(NEGATIVE));
    EVERY("readlinkat empty", CALL(readlinkat, fd, "", buffer, 100));
    EVERY("faccessat", CALL(faccessat, fd, "f", 4));
    EVERY("unlinkat", CALL(unlinkat, fd, "absent", 0));
    WITHOUT(BIT(UNLINKED) | BIT(MEMFD) | BIT(ZERO) | BIT(NUL));
    EVERY("linkat empty", (unlink("n"), CALL(linkat, fd, "", AT_FDCWD, "n", AT_EMPTY_PATH)) == 0 ? 0 : kind != CLOSED && kind != NEGATIVE);
    WITHOUT(NAMELESS);
    EVERY("utimensat NULL", kind == PROC || kind == ZERO || kind == NUL ? 0 : CALL(utimensat, fd, NULL, NULL, 0));
    EVERY("utimensat NULL, flag", CALL(utimensat, fd, NULL, NULL, AT_SYMLINK_NOFOLLOW));
    EVERY("poll in", poll_one(fd, POLLIN));
    EVERY("poll out", poll_one(fd, POLLOUT));
    EVERY("poll all", poll_one(fd, POLLIN | POLLOUT | POLLPRI | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND | POLLRDHUP));
    EVERY("poll none", poll_one(fd, 0));
    EVERY("select", select_one(fd));
    EVERY("epoll_ctl add", epoll_add(fd));
    EVERY("epoll_wait", CALL(epoll_wait, fd, buffer, 1, 0));
    EVERY("open /proc/self/fd rd", kind == PROC || kind == PATH_LINK ? 0 : path_open(fd, O_RDONLY));
    EVERY("open /proc/self/fd wr", kind == PROC || kind == PATH_LINK ? 0 : path_open(fd, O_WRONLY));
    EVERY("open /proc/self/fd path", path_open(fd, O_PATH));
    EVERY("stat /proc/self/fd", kind == PATH_LINK ? 0 : path_stat(fd, 1));
    EVERY("lstat /proc/self/fd", path_stat(fd, 0));
    WITHOUT(BIT(SOCKET) | BIT(NUL));
    EVERY("sendfile from", kind == PROC ? 0 : to_pipe(fd, 5));
    EVERY("sendfile to", from_file(fd, 5));
    EVERY("sendfile to, 0", from_file(fd, 0));
    WITHOUT(BIT(PROC) | BIT(MEMFD));
    EVERY("copy_file_range from", copy_from(fd));
    WITHOUT(BIT(PROC));
    EVERY("copy_file_range to", copy_to(fd));
    EVERY("map shared", map_one(fd, PROT_READ, MAP_SHARED));
    EVERY("map shared write", map_one(fd, PROT_READ | PROT_WRITE, MAP_SHARED));
    EVERY("map private write", map_one(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE));
    EVERY("fgetxattr", CALL(fgetxattr, fd, "user.x", buffer, 10) == -ENODATA ? -EOPNOTSUPP : CALL(fgetxattr, fd, "user.x", buffer, 10));
    EVERY("flistxattr", CALL(flistxattr, fd, buffer, 100) > 0 ? 0 : CALL(flistxattr, fd, buffer, 100));
    EVERY("timerfd_gettime", CALL(timerfd_gettime, fd, buffer));
    EVERY("timerfd_settime", (memset(buffer, 0, 64), CALL(timerfd_settime, fd, 0, buffer, 0)));
    EVERY("timerfd_settime unknown", CALL(timerfd_settime, fd, 8, buffer, 0));
    EVERY("signalfd4", (memset(buffer, 0, 64), kind == NEGATIVE ? 0 : CALL(signalfd4, fd, buffer, 8, 0) == fd ? 1 : CALL(signalfd4, fd, buffer, 8, 0)));
    EVERY("shutdown", CALL(shutdown, fd, 2));
    EVERY("getsockname", (n = 100, CALL(getsockname, fd, buffer, &n)));
    EVERY("send", CALL(sendto, fd, buffer, 1, 0, 0, 0));
    EVERY("recv", CALL(recvfrom, fd, buffer, 1, 0, 0, 0));
    EVERY("dup", dup_close(CALL(dup, fd)));
    EVERY("dup2 700", dup_close(CALL(dup2, fd, 700)));
    EVERY("dup2 itself", CALL(dup2, fd, fd) >= 0 ? 1 : CALL(dup2, fd, fd));
    EVERY("dup3 itself", CALL(dup3, fd, fd, 0));
    EVERY("dup3 unknown", CALL(dup3, fd, 700, O_NONBLOCK));
    EVERY("dup2 -1", CALL(dup2, fd, -1));
    EVERY("dup2 1<<30", CALL(dup2, fd, 1 << 30));
    EVERY("close twice", (close(fd), CALL(close, fd)));
}

/* How far select looks: as far as the table has room, which grows by powers of two, and is made to measure for a child. */
static void show_room(const char *when, int fd) {
    long last = 1;
    printf("%s %d:", when, fd);
    for (int n = 40; n < 700; n++) {
        long r = n == fd ? 0 : select_one(n);
        if (r != last)
            printf(" %ld from %d", r, n);
        last = r;
    }
    printf("\n");
}

static void rooms(void) {
    static const int at[] = {63, 64, 100, 127, 128, 255, 256, 511, 512};
    fflush(stdout);
    if (fork() == 0) {
        syscall(SYS_close_range, 3, ~0u, 0);
        for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
            fflush(stdout);
            if (fork() == 0) {
                dup2(1, at[i]), show_room("open", at[i]), fflush(stdout);
                if (fork() == 0)
                    show_room("child", at[i]), exit(0);
                wait(NULL), close(at[i]), fflush(stdout);
                if (fork() == 0)
                    show_room("closed", at[i]), exit(0);
                wait(NULL), exit(0);
            }
            wait(NULL);
        }
        exit(0);
    }
    wait(NULL);
}

/* To seal a program as one seals its contents: not while a mapping may write them. */
static void sealed_programs(void) {
    enum { ADD = 1033, GET = 1034, SEAL_EXEC = 0x20 };
    for (int mode = 0600; mode <= 0700; mode += 0100) {
        int fd = MUST(memfd_create("m", MFD_ALLOW_SEALING));
        MUST(ftruncate(fd, 4096)), MUST(fchmod(fd, mode));
        char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        printf("mode %o: seal %ld", mode, CALL(fcntl, fd, ADD, SEAL_EXEC));
        printf(" has %ld", CALL(fcntl, fd, GET, 0));
        munmap(map, 4096);
        printf(", unmapped: seal %ld", CALL(fcntl, fd, ADD, SEAL_EXEC));
        printf(" has %ld\n", CALL(fcntl, fd, GET, 0));
    }
    close_all();
}

int main(void) {
    begin();
    sealed_programs();
    rooms();
    every_kind();
    unlink("f"), unlink("l"), unlink("p"), unlink("n"), unlink("c");
    end();
    return 0;
}
