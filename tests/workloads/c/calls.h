/* What the programs share that compare calls with Linux: each prints a line for each call, with its result or its negative errno.
 * The kernel is right when it prints what Linux prints. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef F_SETPIPE_SZ
#define F_SETPIPE_SZ 1031
#define F_GETPIPE_SZ 1032
#endif

#define CALL(name, ...) answer(syscall(SYS_##name, ##__VA_ARGS__))
#define ONE(text, ...) printf("%s: %ld\n", text, (long)(__VA_ARGS__))
#define MUST(call) must(call, #call)

/* What a call returned: its result, or its negative errno. */
static long answer(long result) { return result == -1 ? -errno : result; }

static int must(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
    return result;
}

static char *page, *hole; /* a page, and behind it one that is not there */
__attribute__((unused)) static char buffer[1 << 20];
static int home;          /* the directory in which the program runs */
static char base[] = "/dev/shm/calls-XXXXXX";

static void begin(void) {
    page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    hole = page + 4096;
    munmap(hole, 4096);
    if (!mkdtemp(base) || chdir(base))
        exit(1);
    home = MUST(open(".", O_RDONLY | O_DIRECTORY));
    home = MUST(fcntl(home, F_DUPFD, 900));
    close(3);
    setvbuf(stdout, 0, _IOLBF, 1 << 16);
    umask(022);
    signal(SIGPIPE, SIG_IGN);
}

static void end(void) {
    MUST(fchdir(home));
    MUST(chdir("/"));
    MUST(rmdir(base));
}

/* Descriptors that a test has left. */
__attribute__((unused)) static void close_all(void) {
    for (int i = 3; i < 100; i++)
        close(i);
}
__attribute__((unused)) static long dup_close(long fd) {
    if (fd < 0)
        return fd;
    close(fd);
    return 1;
}
/* What select says of one descriptor: how many sets, and which. */
__attribute__((unused)) static long select_one(int fd) {
    fd_set sets[3];
    if (fd < 0)
        return 0;
    for (int i = 0; i < 3; i++) {
        FD_ZERO(&sets[i]);
        FD_SET(fd, &sets[i]);
    }
    long r = answer(select(fd + 1, &sets[0], &sets[1], &sets[2], &(struct timeval){0, 0}));
    return r <= 0 ? r : r * 1000 + !!FD_ISSET(fd, &sets[0]) * 100 + !!FD_ISSET(fd, &sets[1]) * 10 + !!FD_ISSET(fd, &sets[2]);
}
__attribute__((unused)) static long poll_one(int fd, int events) {
    struct pollfd p = {fd, events, 0};
    long r = CALL(poll, &p, 1, 0);
    return r < 0 ? r : r * 100000 + p.revents;
}
