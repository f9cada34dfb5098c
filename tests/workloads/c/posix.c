/* An ordinary C program: threads, processes, allocation, shared memory, files. Checks itself; prints `posix: ok`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "posix: line %d: " #condition " (errno %d)\n", __LINE__, errno);                           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { THREADS = 16, STEPS = 60 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_key_t key;
static __thread int own;
static int count, destroyed;

static void destroy(void *value) {
    (void)value;
    __atomic_add_fetch(&destroyed, 1, __ATOMIC_SEQ_CST);
}

static void *work(void *argument) {
    long index = (long)argument;
    own = (int)index;
    pthread_setspecific(key, &own);
    pthread_barrier_wait(&barrier);
    for (int step = 0; step < STEPS; step++) {
        size_t size = 1 + (size_t)(index * 7919 + step * 104729) % 200000;
        unsigned char *block = malloc(size);
        CHECK(block);
        memset(block, (int)index, size);
        CHECK(block[0] == index && block[size - 1] == index);
        block = realloc(block, size * 2);
        CHECK(block && block[size - 1] == index);
        free(block);
        pthread_mutex_lock(&mutex);
        count++;
        pthread_mutex_unlock(&mutex);
    }
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    CHECK(own == index);
    return (void *)(index * 2);
}

static void threads(void) {
    pthread_t ids[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0 && pthread_key_create(&key, destroy) == 0);
    for (long i = 0; i < THREADS; i++)
        CHECK(pthread_create(&ids[i], NULL, work, (void *)i) == 0);
    pthread_mutex_lock(&mutex);
    while (count < THREADS * STEPS)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        CHECK(pthread_join(ids[i], &result) == 0 && (long)result == i * 2);
    }
    CHECK(destroyed == THREADS);
}

static void processes(void) {
    sem_t *semaphore = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(semaphore != MAP_FAILED && sem_init(semaphore, 1, 0) == 0);
    int *shared = (int *)(semaphore + 1), private = 5;
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            private += i;
            __atomic_add_fetch(shared, private, __ATOMIC_SEQ_CST);
            sem_post(semaphore);
            _exit(40 + i);
        }
    }
    for (int i = 0; i < 8; i++)
        CHECK(sem_wait(semaphore) == 0);
    int sum = 0, status;
    for (int i = 0; i < 8; i++) {
        CHECK(wait(&status) > 0 && WIFEXITED(status));
        sum += WEXITSTATUS(status);
    }
    CHECK(sum == 8 * 40 + 28 && *shared == 8 * 5 + 28 && private == 5);
    CHECK(wait(&status) == -1 && errno == ECHILD);
}

static void shared_object(void) {
    int fd = memfd_create("object", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 3 * 4096) == 0);
    char *one = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *two = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
    char *copy = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(one != MAP_FAILED && two != MAP_FAILED && copy != MAP_FAILED);
    strcpy(one + 4096, "through one");
    CHECK(strcmp(two, "through one") == 0 && strcmp(copy + 4096, "through one") == 0);
    strcpy(copy + 4096, "private");
    CHECK(strcmp(two, "through one") == 0);
    CHECK(pwrite(fd, "written", 8, 4096) == 8 && strcmp(two, "written") == 0 && strcmp(copy + 4096, "private") == 0);
    pid_t child = fork();
    if (child == 0) {
        strcpy(two, "by the child");
        strcpy(copy, "by the child");
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(strcmp(one + 4096, "by the child") == 0 && copy[0] == 0);
    CHECK(munmap(one, 3 * 4096) == 0 && munmap(two, 4096) == 0 && munmap(copy, 3 * 4096) == 0 && close(fd) == 0);
}

enum { PAGE = 4096 };

/* What a mapping call does to a range in which not everything is the same. */
static char *eight_pages(void) {
    char *pages = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    return pages;
}

/* The signal that a store ends a child with; 0 for none. */
static int store(char *at) {
    pid_t child = fork();
    if (child == 0) {
        *(volatile char *)at = 1;
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void mixed_ranges(void) {
    char *pages = eight_pages();
    CHECK(mprotect(pages + 4 * PAGE, 2 * PAGE, PROT_READ) == 0);
    CHECK(mremap(pages, 8 * PAGE, 2 * PAGE, 0) == pages && munmap(pages, 2 * PAGE) == 0);
    pages = eight_pages();
    CHECK(munmap(pages + 4 * PAGE, PAGE) == 0);
    CHECK(mremap(pages, 8 * PAGE, 6 * PAGE, MREMAP_MAYMOVE) == pages);
    CHECK(mprotect(pages, 6 * PAGE, PROT_READ) == -1 && errno == ENOMEM);
    CHECK(store(pages) == SIGSEGV && store(pages + 3 * PAGE) == SIGSEGV && store(pages + 5 * PAGE) == 0);
    CHECK(munmap(pages, 6 * PAGE) == 0);
    pages = eight_pages();
    CHECK(mprotect(pages + PAGE, PAGE, PROT_NONE) == 0);
    CHECK(mlock(pages, 3 * PAGE) == -1 && errno == ENOMEM);
    CHECK(mlock(pages, PAGE) == 0 && msync(pages, PAGE, MS_INVALIDATE) == -1 && errno == EBUSY);
    CHECK(munmap(pages, 8 * PAGE) == 0);
    int fd = memfd_create("object", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    pages = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(pages != MAP_FAILED && store(pages + PAGE) == SIGSEGV);
    CHECK(madvise(pages, PAGE, MADV_WIPEONFORK) == -1 && errno == EINVAL);
    CHECK(mprotect(pages, 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
    CHECK(store(pages) == 0 && store(pages + PAGE) == SIGBUS);
    CHECK(munmap(pages, 2 * PAGE) == 0 && close(fd) == 0);
}

/* What mappings show of a file that becomes shorter and longer again, and gets holes. */
static void cut_files(void) {
    int fd = memfd_create("cut", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 8 * PAGE) == 0);
    char *all = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *copy = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(all != MAP_FAILED && copy != MAP_FAILED);
    for (int i = 0; i < 8; i++) {
        all[i * PAGE] = all[i * PAGE + 200] = (char)(i + 1);
        if (i % 2)
            copy[i * PAGE + 200] = 50;
    }
    CHECK(ftruncate(fd, 2 * PAGE + 100) == 0);
    CHECK(all[2 * PAGE] == 3 && copy[2 * PAGE] == 3 && all[2 * PAGE + 200] == 0);
    CHECK(store(all + 2 * PAGE) == 0 && store(all + 3 * PAGE) == SIGBUS && store(copy + 3 * PAGE) == SIGBUS);
    CHECK(store(copy + 4 * PAGE) == SIGBUS && store(all + 7 * PAGE) == SIGBUS);
    CHECK(ftruncate(fd, 8 * PAGE) == 0);
    for (int i = 3; i < 8; i++)
        CHECK(all[i * PAGE] == 0 && copy[i * PAGE] == 0 && copy[i * PAGE + 200] == 0);
    CHECK(copy[PAGE + 200] == 50 && pwrite(fd, "x", 1, 5 * PAGE) == 1 && all[5 * PAGE] == 'x' && copy[5 * PAGE] == 'x');

    for (int i = 0; i < 8; i++)
        all[i * PAGE] = all[i * PAGE + 200] = (char)(i + 1);
    copy[3 * PAGE] = 60;
    const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    CHECK(fallocate(fd, hole, PAGE + 100, 3 * PAGE) == 0 && lseek(fd, 0, SEEK_END) == 8 * PAGE);
    CHECK(all[PAGE] == 2 && all[PAGE + 200] == 0 && all[2 * PAGE] == 0 && all[3 * PAGE] == 0);
    CHECK(all[4 * PAGE] == 0 && all[4 * PAGE + 200] == 5 && copy[3 * PAGE] == 60 && copy[2 * PAGE] == 0);
    CHECK(fallocate(fd, hole, 4 * PAGE, 300) == 0 && all[4 * PAGE + 200] == 0 && all[5 * PAGE] == 6);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE) == -1 && errno == EOPNOTSUPP);
    CHECK(madvise(all + 6 * PAGE, 2 * PAGE, MADV_REMOVE) == 0 && all[6 * PAGE] == 0 && all[7 * PAGE + 200] == 0);
    CHECK(madvise(copy, PAGE, MADV_REMOVE) == -1 && errno == EACCES);
    CHECK(fallocate(fd, hole, PAGE, 0x7fffffffffffffff) == -1 && errno == EFBIG);
    CHECK(mprotect(all, PAGE, PROT_READ) == 0 && madvise(all, PAGE, MADV_REMOVE) == 0 && all[0] == 0);
    CHECK(munmap(all, 8 * PAGE) == 0 && munmap(copy, 8 * PAGE) == 0 && close(fd) == 0);
    all = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(all != MAP_FAILED);
    all[0] = all[PAGE] = 1;
    CHECK(madvise(all, PAGE, MADV_REMOVE) == 0 && all[0] == 0 && all[PAGE] == 1 && munmap(all, 2 * PAGE) == 0);
    copy = eight_pages();
    CHECK(madvise(copy, PAGE, MADV_REMOVE) == -1 && errno == EINVAL && munmap(copy, 8 * PAGE) == 0);
}

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

static int sealed(int pages, int seals) {
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK(fd >= 0 && ftruncate(fd, pages * PAGE) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

/* A view of the first page of a file. */
static char *view(int fd, int rights) {
    return mmap(NULL, PAGE, rights, MAP_SHARED, fd, 0);
}

#define REFUSED(call, error) ((long)(call) == -1 && errno == (error))

/* What seals forbid, and what forbids seals. */
static void sealed_files(void) {
    static char zeros[3 * PAGE];
    const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, both = PROT_READ | PROT_WRITE;
    int fd = sealed(2, F_SEAL_GROW);
    CHECK(pwrite(fd, zeros, 3 * PAGE, 100) == 2 * PAGE - 100 && REFUSED(pwrite(fd, zeros, 1, 2 * PAGE), EPERM));
    CHECK(ftruncate(fd, PAGE + 904) == 0 && pwrite(fd, zeros, 2 * PAGE, 0) == PAGE);
    CHECK(REFUSED(pwrite(fd, zeros, 5, PAGE + 900), EPERM) && pwrite(fd, zeros, 4, PAGE + 900) == 4);
    CHECK(REFUSED(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * PAGE), EPERM) && REFUSED(ftruncate(fd, 2 * PAGE), EPERM));
    CHECK(fallocate(fd, hole, 0, PAGE) == 0 && close(fd) == 0);
    fd = sealed(2, F_SEAL_SHRINK);
    CHECK(REFUSED(ftruncate(fd, PAGE), EPERM) && ftruncate(fd, 3 * PAGE) == 0 && close(fd) == 0);

    fd = sealed(2, F_SEAL_WRITE);
    CHECK(REFUSED(pwrite(fd, zeros, 1, 0), EPERM) && pwrite(fd, zeros, 0, 0) == 0);
    CHECK(REFUSED(fallocate(fd, hole, 0, 9), EPERM) && ftruncate(fd, 3 * PAGE) == 0);
    CHECK(REFUSED(view(fd, both), EPERM) && REFUSED(view(fd, PROT_WRITE), EPERM));
    char *p = view(fd, PROT_READ);
    CHECK(p != MAP_FAILED && REFUSED(mprotect(p, PAGE, both), EACCES) && mprotect(p, PAGE, PROT_NONE) == 0);
    CHECK(REFUSED(madvise(p, PAGE, MADV_REMOVE), EACCES) && munmap(p, PAGE) == 0 && close(fd) == 0);

    fd = sealed(2, 0);
    p = view(fd, PROT_READ);
    CHECK(REFUSED(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY) && mprotect(p, PAGE, both) == 0 && store(p) == 0);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0 && REFUSED(view(fd, both), EPERM));
    CHECK(mprotect(p, PAGE, PROT_READ) == 0 && mprotect(p, PAGE, both) == 0 && REFUSED(pwrite(fd, zeros, 1, 0), EPERM));
    char *second = mremap(p, 0, PAGE, MREMAP_MAYMOVE), *third = view(fd, PROT_READ);
    CHECK(second != MAP_FAILED && REFUSED(mprotect(third, PAGE, both), EACCES) && munmap(p, PAGE) == 0);
    CHECK(REFUSED(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY));
    pid_t child = fork();
    if (child == 0)
        pause();
    CHECK(child > 0 && munmap(second, PAGE) == 0 && REFUSED(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY));
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0 && REFUSED(fcntl(fd, F_ADD_SEALS, 0), EPERM));
    CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_FUTURE_WRITE | F_SEAL_WRITE | F_SEAL_SEAL) && munmap(third, PAGE) == 0);
    CHECK(close(fd) == 0);

    fd = sealed(1, F_SEAL_EXEC);
    CHECK(fcntl(fd, F_GET_SEALS) == 0x3e && REFUSED(fchmod(fd, 0666), EPERM) && REFUSED(view(fd, both), EPERM));
    CHECK(close(fd) == 0 && REFUSED(memfd_create("both", MFD_NOEXEC_SEAL | 0x10), EINVAL));
    fd = memfd_create("data", MFD_NOEXEC_SEAL);
    CHECK(fcntl(fd, F_GET_SEALS) == F_SEAL_EXEC && REFUSED(fchmod(fd, 0777), EPERM) && fchmod(fd, 0600) == 0);
    CHECK(close(fd) == 0);
    fd = open("/dev/zero", O_RDONLY);
    p = view(fd, PROT_READ);
    CHECK(REFUSED(view(fd, both), EACCES) && REFUSED(mprotect(p, PAGE, both), EACCES) && munmap(p, PAGE) == 0);
    CHECK(close(fd) == 0);
}

static long attachments(int id) {
    struct shmid_ds ds;
    return shmctl(id, IPC_STAT, &ds) == 0 ? (long)ds.shm_nattch : -1;
}

/* Ends in a child whose exit status is 0 when `wanted` is what it finds at `p`, and writes there. */
static int child_writes(char *p, char wanted) {
    pid_t pid = fork();
    if (pid == 0) {
        int ok = *p == wanted;
        *p = 'c';
        _exit(!ok);
    }
    int status;
    return waitpid(pid, &status, 0) == pid && status == 0;
}

/* System V shared memory: found by key and by number, gone with the last attachment after its removal. */
static void shared_segments(void) {
    const key_t key = 0x51000000 | getpid();
    CHECK(shmget(key, PAGE, 0600) == -1 && errno == ENOENT && shmget(key, 0, IPC_CREAT | 0600) == -1 && errno == EINVAL);
    int id = shmget(key, 3 * PAGE - 5, IPC_CREAT | IPC_EXCL | 0640);
    CHECK(id >= 0 && shmget(key, PAGE, 0) == id && shmget(key, 3 * PAGE, IPC_CREAT) == -1 && errno == EINVAL);
    CHECK(shmget(key, PAGE, IPC_CREAT | IPC_EXCL) == -1 && errno == EEXIST);
    char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
    CHECK(a != (void *)-1 && b != (void *)-1 && a != b && a[3 * PAGE - 1] == 0);
    a[PAGE] = 'a';
    CHECK(b[PAGE] == 'a' && store(b + PAGE) == SIGSEGV && mprotect(b, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    CHECK(child_writes(a + PAGE, 'a') && b[PAGE] == 'c' && attachments(id) == 2);
    CHECK(shmat(id, a + 1, 0) == (void *)-1 && errno == EINVAL && shmat(id, b, 0) == (void *)-1 && errno == EINVAL);
    CHECK(shmat(id, b + 1, SHM_RND | SHM_REMAP) == b && store(b + PAGE) == 0 && attachments(id) == 2);
    CHECK(shmdt(b + PAGE) == -1 && errno == EINVAL && munmap(b + PAGE, PAGE) == 0 && attachments(id) == 3);
    struct shmid_ds ds;
    CHECK(shmdt(b) == 0 && shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_lpid == getpid());
    CHECK(attachments(id) == 1 && store(b + 2 * PAGE) == SIGSEGV && shmdt(b) == -1 && errno == EINVAL);

    CHECK(shmctl(id, IPC_STAT, &ds) == 0 && ds.shm_segsz == 3 * PAGE - 5 && ds.shm_cpid == getpid());
    CHECK((ds.shm_perm.mode & 07777) == 0640);
    ds.shm_perm.mode = 0600;
    CHECK(shmctl(id, IPC_SET, &ds) == 0 && shmctl(id, IPC_RMID, NULL) == 0 && shmget(key, PAGE, 0) == -1 && errno == ENOENT);
    CHECK(shmctl(id, IPC_STAT, &ds) == 0 && (ds.shm_perm.mode & 07777) == (01000 | 0600) && ds.shm_nattch == 1);
    b = shmat(id, NULL, 0);
    CHECK(b != (void *)-1 && b[PAGE] == a[PAGE] && shmdt(a) == 0 && attachments(id) == 1 && shmdt(b) == 0);
    CHECK(attachments(id) == -1 && errno == EINVAL && shmat(id, NULL, 0) == (void *)-1 && errno == EINVAL);

    /* The last one to show it is a child, which just ends. */
    id = shmget(IPC_PRIVATE, PAGE, 0600);
    CHECK(id >= 0 && (a = shmat(id, NULL, 0)) != (void *)-1);
    int go[2], status;
    CHECK(pipe(go) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        _exit(read(go[0], a, 1) != 0);
    }
    CHECK(shmctl(id, IPC_RMID, NULL) == 0 && shmdt(a) == 0 && attachments(id) == 1);
    CHECK(close(go[1]) == 0 && close(go[0]) == 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(attachments(id) == -1 && errno == EINVAL);
}

static int polled(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
    CHECK(poll(&p, 1, 0) >= 0);
    return p.revents;
}

/* An attachment that has grown: what is left of it above its first page goes whole. */
static void grown_segment(void) {
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    char *at = shmat(id, NULL, 0);
    CHECK(id >= 0 && at != (void *)-1 && shmctl(id, IPC_RMID, NULL) == 0);
    char *grown = mremap(at, 4096, 3 * 4096, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED && munmap(grown, 4096) == 0);
    unsigned char there[2];
    CHECK(shmdt(grown) == 0 && mincore(grown + 4096, 2 * 4096, there) == -1 && errno == ENOMEM);
    CHECK(shmdt(grown) == -1 && errno == EINVAL);
}

static void *read_one(void *fd) {
    char c;
    return (void *)read(*(int *)fd, &c, 1);
}

/* Sockets of which one direction is shut, copies within a file, sets of epoll that only one is told. */
static void half_closed(void) {
    int s[2];
    char b[8];
    signal(SIGPIPE, SIG_IGN);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && shutdown(s[1], SHUT_WR) == 0);
    CHECK(polled(s[0]) == (POLLIN | POLLOUT | POLLRDHUP) && read(s[0], b, 1) == 0 && close(s[1]) == 0);
    CHECK(polled(s[0]) == (POLLIN | POLLOUT | POLLRDHUP | POLLHUP) && close(s[0]) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && write(s[1], "abc", 3) == 3 && shutdown(s[0], SHUT_RD) == 0);
    CHECK(polled(s[0]) == (POLLIN | POLLOUT | POLLRDHUP) && read(s[0], b, 3) == 3 && read(s[0], b, 3) == 0);
    CHECK(write(s[1], "x", 1) == -1 && errno == EPIPE && close(s[0]) == 0 && close(s[1]) == 0);
    pthread_t reader;
    void *got;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pthread_create(&reader, NULL, read_one, &s[0]) == 0);
    usleep(50000);
    CHECK(shutdown(s[0], SHUT_RD) == 0 && pthread_join(reader, &got) == 0 && got == NULL);

    int set = epoll_create1(0), other = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, s[0], &e) == -1 && errno == EINVAL);
    e.events = EPOLLIN | EPOLLEXCLUSIVE;
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, other, &e) == -1 && errno == EINVAL && epoll_ctl(set, EPOLL_CTL_ADD, s[0], &e) == 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_MOD, s[0], &e) == -1 && errno == EINVAL);
    CHECK(close(set) == 0 && close(other) == 0 && close(s[0]) == 0 && close(s[1]) == 0);

    int fd = memfd_create("copy", MFD_CLOEXEC), dir = open("/", O_RDONLY | O_DIRECTORY);
    loff_t from = 0, to = 10;
    CHECK(fd >= 0 && dir >= 0 && write(fd, "0123456789", 10) == 10);
    CHECK(syscall(SYS_copy_file_range, fd, &from, fd, &to, 4096ul, 0u) == 10 && lseek(fd, 0, SEEK_END) == 20);
    CHECK(syscall(SYS_copy_file_range, dir, NULL, fd, NULL, 1ul, 0u) == -1 && errno == EISDIR);
    CHECK(close(fd) == 0 && close(dir) == 0);
}

/* The signal that a child ends with is a byte of any value; only what is a signal comes. */
static void exit_signals(void) {
    /* The libraries keep some signals for themselves. */
    unsigned long all = ~0ul, before, pending;
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8) == 0);
    for (int number = 0; number < 256; number++) {
        if (number == SIGKILL || number == SIGSTOP)
            continue;
        long child = syscall(SYS_clone, (long)number, 0l, 0l, 0l, 0l);
        if (child == 0)
            syscall(SYS_exit_group, 5);
        int status;
        CHECK(child > 0 && waitpid((pid_t)child, &status, __WALL) == child && WIFEXITED(status) && WEXITSTATUS(status) == 5);
        CHECK(syscall(SYS_rt_sigpending, &pending, 8) == 0);
        CHECK(pending == (number >= 1 && number <= 64 ? 1ul << (number - 1) : 0));
        struct timespec none = {0, 0};
        while (syscall(SYS_rt_sigtimedwait, &all, NULL, &none, 8) > 0)
            ;
    }
    CHECK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8) == 0);
}

int main(void) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    threads();
    processes();
    shared_object();
    mixed_ranges();
    cut_files();
    sealed_files();
    shared_segments();
    grown_segment();
    half_closed();
    exit_signals();
    void *reserved = mmap(NULL, 4ul << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(reserved != MAP_FAILED && mprotect((char *)reserved + (1ul << 40), 1 << 20, PROT_READ | PROT_WRITE) == 0);
    ((char *)reserved)[(1ul << 40) + 4097] = 1;
    CHECK(munmap(reserved, 4ul << 40) == 0);
    printf("posix: ok %.3f\n", 1.0 / 3);
    return 0;
}
