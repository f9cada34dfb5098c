/* Calls that take paths, with paths of every kind; the flags of open; which times each call moves. */
#include "calls.h"

static void clean(void) {
    static const char *const all[] = {"d", "full", "absent/x", "full/full", "full/x", "full/f", "full/l", "full/d", "full/y", "d/x", "d/f", "d/y", "d/absent", "full/..", "f", "absent", "l", "dangling", "loop", "ld", "p", "new", "nowhere", "u", "n", "c", "g", "x", "s"};
    for (int r = 0; r < 2; r++)
        for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
            if (unlink(all[i]) && errno == EISDIR)
                rmdir(all[i]);
    unlink("d/x/x"), rmdir("d/x"), unlink("absent/x/x"), rmdir("absent/x"), rmdir("d"), rmdir("full"), rmdir("absent");
}

static void open_flags(void) {
    static const struct { const char *name; int flags; } table[] = {
        {"rdonly", 0}, {"wronly", 1}, {"rdwr", 2}, {"accmode 3", 3}, {"creat", O_CREAT | O_RDWR}, {"creat excl", O_CREAT | O_EXCL | O_RDWR},
        {"trunc", O_TRUNC}, {"trunc rdwr", O_TRUNC | O_RDWR}, {"directory", O_DIRECTORY}, {"directory wr", O_DIRECTORY | O_WRONLY},
        {"creat directory", O_CREAT | O_DIRECTORY}, {"creat directory excl", O_CREAT | O_DIRECTORY | O_EXCL},
        {"nofollow", O_NOFOLLOW}, {"nofollow creat", O_NOFOLLOW | O_CREAT | O_RDWR}, {"path", O_PATH}, {"path nofollow", O_PATH | O_NOFOLLOW}, {"path wr", O_PATH | O_RDWR},
        {"path creat", O_PATH | O_CREAT}, {"path trunc", O_PATH | O_TRUNC | O_RDWR}, {"path directory", O_PATH | O_DIRECTORY}, {"tmpfile", O_TMPFILE}, {"tmpfile wr", O_TMPFILE | O_WRONLY},
        {"tmpfile rdwr", O_TMPFILE | O_RDWR}, {"tmpfile creat", O_TMPFILE | O_RDWR | O_CREAT}, {"tmpfile bit alone", (O_TMPFILE & ~O_DIRECTORY) | O_RDWR},
        {"tmpfile excl", O_TMPFILE | O_RDWR | O_EXCL}, {"append", O_APPEND | O_RDWR}, {"nonblock wr", O_NONBLOCK | O_WRONLY}, {"nonblock rd", O_NONBLOCK | O_RDONLY},
        {"unknown", 0x40000000}, {"unknown rdwr", 0x40000000 | O_RDWR}, {"noatime", O_NOATIME}, {"sync", O_SYNC | O_RDWR},
    };
    static const char *const paths[] = {"f", "d", "absent", "l", "dangling", "loop", "p", "f/", "d/", "absent/", "f/x", "d/absent", "absent/x", "", ".", "..", "/", "d/.", "d/..", "l/",
        "ld", "ld/", "/dev/null", "/proc/self/status", "/proc/self/fd", "/proc/self/exe", "s"};
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
        printf("open %s:", table[i].name);
        for (unsigned k = 0; k < sizeof paths / sizeof *paths; k++) {
            close(MUST(open("f", O_RDWR | O_CREAT, 0600)));
            mkdir("d", 0700);
            symlink("f", "l"), symlink("nowhere", "dangling"), symlink("loop", "loop"), symlink("d", "ld");
            mkfifo("p", 0600);
            if (!strcmp(paths[k], "p") && !(table[i].flags & (O_NONBLOCK | O_PATH)) && (table[i].flags & 3) < 2)
                continue;
            if (!strcmp(paths[k], "/proc/self/exe") && ((table[i].flags & 3) || (table[i].flags & O_TRUNC)))
                continue;
            long r = CALL(open, paths[k], table[i].flags, 0600);
            if (r >= 0) {
                long fl = CALL(fcntl, r, F_GETFL);
                close(r);
                r = fl;
            }
            printf(" %s=%ld", paths[k], r);
            unlink("nowhere"), unlink("absent"), unlink("d/absent");
        }
        printf("\n");
    }
}

static void paths(void) {
    static const char *const from[] = {"f", "d", "full", "absent", "l", "dangling", "loop", "ld", "f/", "d/", "absent/", "ld/", "l/", "f/x", "absent/x", "", ".", "..", "/", "d/.", "full/..", "d/x", "/proc/self/status", "/proc/newdir", "p"};
    enum { N = sizeof from / sizeof *from };
#define FRESH()                                                                                                        \
    do {                                                                                                               \
        clean();                                                                                                       \
        close(MUST(open("f", O_RDWR | O_CREAT, 0600)));                                                                \
        MUST(mkdir("d", 0700)), MUST(mkdir("full", 0700));                                                             \
        close(MUST(open("full/x", O_RDWR | O_CREAT, 0600)));                                                           \
        symlink("f", "l"), symlink("nowhere", "dangling"), symlink("loop", "loop"), symlink("d", "ld");                \
        MUST(mkfifo("p", 0600));                                                                                       \
    } while (0)
    #define OVER(text, ...)                                                                                                \
    do {                                                                                                               \
        printf("%s:", text);                                                                                           \
        for (int i = 0; i < N; i++) {                                                                                  \
            const char *path = from[i];                                                                                \
            FRESH();                                                                                                   \
            printf(" %s=%ld", path, (long)(__VA_ARGS__));                                                              \
        }                                                                                                              \
        printf("\n");                                                                                                  \
    } while (0)
    OVER("stat", CALL(stat, path, buffer));
    OVER("lstat", CALL(lstat, path, buffer));
    OVER("access r", CALL(access, path, 4));
    OVER("access x", CALL(access, path, 1));
    OVER("access 8", CALL(access, path, 8));
    OVER("faccessat2 unknown", CALL(faccessat2, AT_FDCWD, path, 4, 0x8000));
    OVER("faccessat2 nofollow", CALL(faccessat2, AT_FDCWD, path, 4, AT_SYMLINK_NOFOLLOW));
    OVER("unlink", strcmp(path, "/proc/self/status") && strcmp(path, "/dev/null") ? CALL(unlink, path) : 0);
    OVER("rmdir", CALL(rmdir, path));
    OVER("unlinkat unknown", CALL(unlinkat, AT_FDCWD, path, 1));
    OVER("mkdir", CALL(mkdir, path, 0700));
    OVER("mknod regular", CALL(mknod, path, 0100600, 0));
    OVER("mknod 0", CALL(mknod, path, 0600, 0));
    OVER("mknod fifo", CALL(mknod, path, 0010600, 0));
    OVER("mknod directory", CALL(mknod, path, 0040600, 0));
    OVER("mknod link", CALL(mknod, path, 0120600, 0));
    OVER("mknod bad", CALL(mknod, path, 0030600, 0));
    OVER("symlink", CALL(symlink, "f", path));
    OVER("symlink empty", CALL(symlink, "", path));
    OVER("readlink", strncmp(path, "/proc", 5) ? CALL(readlink, path, buffer, 100) : 0);
    OVER("truncate 3", strncmp(path, "/proc", 5) ? CALL(truncate, path, 3L) : 0);
    OVER("truncate -1", CALL(truncate, path, -1L));
    OVER("chmod", strncmp(path, "/", 1) ? CALL(chmod, path, 0700) : 0);
    OVER("fchmodat2 unknown", CALL(fchmodat2, AT_FDCWD, path, 0700, 1));
    OVER("chdir", (CALL(chdir, path) == 0 ? (fchdir(home), 0) : answer(-1)));
    OVER("utimensat", strncmp(path, "/", 1) ? CALL(utimensat, AT_FDCWD, path, NULL, 0) : 0);
    OVER("utimensat nofollow", strncmp(path, "/", 1) ? CALL(utimensat, AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) : 0);
    OVER("utimensat unknown", CALL(utimensat, AT_FDCWD, path, NULL, 1));
    OVER("utime", strncmp(path, "/", 1) ? CALL(utime, path, NULL) : 0);
    OVER("utimes", strncmp(path, "/", 1) ? CALL(utimes, path, NULL) : 0);
    OVER("futimesat", strncmp(path, "/", 1) ? CALL(futimesat, AT_FDCWD, path, NULL) : 0);
    OVER("statfs", CALL(statfs, path, buffer));
    OVER("getxattr", CALL(getxattr, path, "user.none", buffer, 10) == -ENODATA ? -EOPNOTSUPP : CALL(getxattr, path, "user.none", buffer, 10));
    OVER("listxattr", CALL(listxattr, path, buffer, 100) > 0 ? 0 : CALL(listxattr, path, buffer, 100));
    OVER("link", strncmp(path, "/", 1) ? CALL(link, path, "new") : 0);
    OVER("link to", CALL(link, "f", path));
    OVER("linkat follow", strncmp(path, "/", 1) ? CALL(linkat, AT_FDCWD, path, AT_FDCWD, "new", AT_SYMLINK_FOLLOW) : 0);
    OVER("linkat unknown", CALL(linkat, AT_FDCWD, path, AT_FDCWD, "new", 1));
    OVER("statx", CALL(statx, AT_FDCWD, path, 0, 0x7ff, buffer));
    for (int a = 0; a < N; a++) {
        if (*from[a] == '/')
            continue;
        printf("rename %s to:", from[a]);
        for (int b = 0; b < N; b++) {
            FRESH();
            if (!strcmp(from[b], "/"))
                continue;
            printf(" %s=%ld", from[b], CALL(rename, from[a], from[b]));
        }
        printf("\n");
    }
    static const unsigned flags[] = {0, 1, 2, 3, 6, 8, 0x80000000};
    for (int i = 0; i < 7; i++) {
        printf("renameat2 flags %x:", flags[i]);
        static const char *const pairs[][2] = {{"f", "d"}, {"f", "absent"}, {"d", "full"}, {"f", "l"}, {"full", "full/x"}, {"f", "f"}, {"absent", "f"}, {"d", "d/y"}, {"f", "full/x"}};
        for (int k = 0; k < 9; k++) {
            FRESH();
            printf(" %s-%s=%ld", pairs[k][0], pairs[k][1], CALL(renameat2, AT_FDCWD, pairs[k][0], AT_FDCWD, pairs[k][1], flags[i]));
            unlink("full/y"), unlink("d/y");
        }
        printf("\n");
    }
    FRESH();
    char longest[5000];
    memset(longest, 'a', sizeof longest);
    longest[255] = 0;
    ONE("name of 255", CALL(mkdir, longest, 0700));
    ONE("gone", CALL(rmdir, longest));
    longest[255] = 'a', longest[256] = 0;
    ONE("name of 256", CALL(mkdir, longest, 0700));
    longest[256] = 'a', longest[4095] = 0;
    ONE("path of 4095", CALL(mkdir, longest, 0700));
    longest[4095] = 'a', longest[4096] = 0;
    ONE("path of 4096", CALL(mkdir, longest, 0700));
    for (int i = 0; i < 4094; i += 2)
        longest[i] = '.', longest[i + 1] = '/';
    longest[4094] = 'f', longest[4095] = 0;
    ONE("dots", CALL(stat, longest, buffer));
    ONE("NULL", CALL(stat, NULL, buffer));
    ONE("hole", CALL(stat, hole, buffer));
    clean();
}

static long sendfile_10(int to, int from) { return CALL(sendfile, to, from, NULL, 10); }
static void times_of(void) {
    struct stat a, b;
    close(MUST(open("f", O_RDWR | O_CREAT, 0600)));
    static const struct { const char *name; struct timespec t[2]; } sets[] = {
        {"plain", {{1, 0}, {4, 5}}}, {"omit access", {{1, UTIME_OMIT}, {6, 0}}}, {"omit both", {{0, UTIME_OMIT}, {0, UTIME_OMIT}}}, {"omit change", {{7, 0}, {8, UTIME_OMIT}}},
        {"bad", {{0, -1}, {0, 0}}}, {"bad second", {{0, 0}, {0, 1000000000}}}, {"bad with omit", {{0, UTIME_OMIT}, {0, 1000000000}}}, {"negative", {{-5, 0}, {-7, 1}}},
    };
    static const char *const paths[] = {"f", "d", "l", "p"};
    mkdir("d", 0700), symlink("f", "l"), mkfifo("p", 0600);
    for (int k = 0; k < 4; k++)
        for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++) {
            long r = CALL(utimensat, AT_FDCWD, paths[k], sets[i].t, AT_SYMLINK_NOFOLLOW);
            lstat(paths[k], &a);
            printf("utimensat %s %s: %ld atime %ld.%09ld mtime %ld.%09ld\n", paths[k], sets[i].name, r, (long)a.st_atim.tv_sec, a.st_atim.tv_nsec, (long)a.st_mtim.tv_sec, a.st_mtim.tv_nsec);
        }
    struct timespec now[2] = {{0, UTIME_NOW}, {9, 9}};
    ONE("now for access", CALL(utimensat, AT_FDCWD, "f", now, 0));
    stat("f", &a);
    printf("access is now %d, change 9: %d\n", labs(a.st_atime - time(0)) < 3, a.st_mtime == 9);
    struct timeval tv[2] = {{11, 999999}, {12, 1}}, bad[2] = {{0, 1000000}, {0, 0}};
    ONE("utimes", CALL(utimes, "f", tv));
    ONE("utimes bad", CALL(utimes, "f", bad));
    stat("f", &a);
    printf("utimes: %ld.%06ld %ld.%06ld\n", (long)a.st_atim.tv_sec, a.st_atim.tv_nsec / 1000, (long)a.st_mtim.tv_sec, a.st_mtim.tv_nsec / 1000);
    long ut[2] = {13, 14};
    ONE("utime", CALL(utime, "f", ut));
    stat("f", &a);
    printf("utime: %ld %ld\n", (long)a.st_atime, (long)a.st_mtime);
    ONE("utime hole", CALL(utime, "f", hole));
    /* Which times each call moves: a letter for each of access, modification, change. */
#define OLD(path) utimensat(AT_FDCWD, path, (struct timespec[2]){{100, 0}, {100, 0}}, AT_SYMLINK_NOFOLLOW)
#define MOVES(text, path, ...)                                                                                         \
    do {                                                                                                               \
        OLD(path);                                                                                                     \
        lstat(path, &a);                                                                                               \
        usleep(12000);                                                                                                 \
        long r = (long)(__VA_ARGS__);                                                                                  \
        lstat(path, &b);                                                                                               \
        printf("times %s: %ld %s%s%s\n", text, r, b.st_atime != 100 ? "a" : "-", b.st_mtime != 100 ? "m" : "-",         \
               b.st_ctim.tv_sec != a.st_ctim.tv_sec || b.st_ctim.tv_nsec != a.st_ctim.tv_nsec ? "c" : "-");             \
    } while (0)
    int f = MUST(open("f", O_RDWR)), g;
    MOVES("write", "f", write(f, "hello", 5));
    MOVES("write 0", "f", write(f, "", 0));
    MOVES("pread", "f", pread(f, buffer, 5, 0));
    MOVES("pread again", "f", (pread(f, buffer, 5, 0), pread(f, buffer, 5, 0)));
    MOVES("read at the end", "f", pread(f, buffer, 5, 100));
    MOVES("ftruncate", "f", ftruncate(f, 3));
    MOVES("ftruncate same", "f", ftruncate(f, 3));
    MOVES("truncate same", "f", truncate("f", 3));
    MOVES("fallocate", "f", fallocate(f, 0, 0, 100));
    MOVES("punch", "f", fallocate(f, 3, 0, 10));
    MOVES("open trunc", "f", (g = open("f", O_RDWR | O_TRUNC), close(g), 0));
    MOVES("open trunc again", "f", (g = open("f", O_RDWR | O_TRUNC), close(g), 0));
    MOVES("open", "f", (g = open("f", O_RDWR), close(g), 0));
    MOVES("chmod", "f", chmod("f", 0600));
    MOVES("link", "f", link("f", "n"));
    MOVES("unlink", "f", unlink("n"));
    MOVES("rename", "f", (rename("f", "x"), rename("x", "f")));
    MOVES("stat", "f", stat("f", &b));
    MOVES("create in", "d", (g = open("d/x", O_CREAT | O_RDWR, 0600), close(g), 0));
    MOVES("open in", "d", (g = open("d/x", O_CREAT | O_RDWR, 0600), close(g), 0));
    MOVES("write in", "d", (g = open("d/x", O_RDWR), write(g, "x", 1), close(g), 0));
    MOVES("unlink in", "d", unlink("d/x"));
    MOVES("mkdir in", "d", mkdir("d/x", 0700));
    MOVES("rename in", "d", rename("d/x", "d/y"));
    MOVES("rmdir in", "d", rmdir("d/y"));
    MOVES("symlink in", "d", symlink("x", "d/y"));
    MOVES("rename out", "d", rename("d/y", "x"));
    MOVES("readlink", "x", readlink("x", buffer, 10));
    MOVES("chmod directory", "d", chmod("d", 0755));
    unlink("x");
    ftruncate(f, 0);
    int from = MUST(open("/proc/self/exe", O_RDONLY));
    MOVES("sendfile to", "f", sendfile_10(f, from));
    MOVES("sendfile from", "f", (lseek(f, 0, SEEK_SET), g = MUST(open("/dev/null", O_WRONLY)), sendfile_10(g, f) > 0));
    int p = MUST(open("p", O_RDWR | O_NONBLOCK));
    MOVES("fifo write", "p", write(p, "x", 1));
    MOVES("fifo read", "p", read(p, buffer, 1));
    close(f), close(p), close(from);
    clean();
}

/* A descriptor of a directory, and the working directory, are the directory: whatever it is called now, and whatever has its
 * name. */
static void text(const char *label, int dir, const char *path) {
    char got[8] = "";
    int fd = openat(dir, path, O_RDONLY);
    if (fd >= 0 && read(fd, got, sizeof got - 1) >= 0)
        close(fd);
    printf("%s: %s\n", label, fd < 0 ? strerror(errno) : got);
}
static void put(int dir, const char *path, const char *what) {
    int fd = openat(dir, path, O_CREAT | O_WRONLY, 0600);
    if (fd < 0 || write(fd, what, strlen(what)) < 0)
        printf("%s: %s\n", path, strerror(errno));
    close(fd);
}
static void renamed_directories(void) {
    char where[PATH_MAX];
    mkdir("one", 0700), mkdir("one/in", 0700), mkdir("two", 0700), mkdir("two/in", 0700);
    put(AT_FDCWD, "one/in/f", "first"), put(AT_FDCWD, "two/in/f", "second");
    int in = MUST(open("one/in", O_RDONLY | O_DIRECTORY));
    MUST(chdir("one/in"));
    MUST(renameat(home, "one", home, "three")), MUST(renameat(home, "two", home, "one"));
    text("by descriptor", in, "f"), text("by the working directory", AT_FDCWD, "f"), text("above", in, "../in/f");
    printf("getcwd %s\n", getcwd(where, sizeof where) ? strstr(where, "/three") : "none");
    put(in, "new", "new");
    ONE("made", CALL(faccessat, home, "three/in/new", 0, 0));
    ONE("not made", CALL(faccessat, home, "one/in/new", 0, 0));
    ONE("unlink", CALL(unlinkat, in, "f", 0));
    text("the other", home, "one/in/f"), text("gone", home, "three/in/f");
    ONE("unlink", CALL(unlinkat, in, "new", 0));
    ONE("rmdir", CALL(unlinkat, home, "three/in", AT_REMOVEDIR));
    MUST(mkdirat(home, "three/in", 0700)), put(home, "three/in/f", "third");
    text("removed", in, "f"), text("removed", AT_FDCWD, "f");
    ONE("make in removed", CALL(openat, in, "g", O_CREAT | O_WRONLY, 0600));
    ONE("getcwd", CALL(getcwd, where, sizeof where));
    ONE("absolute", CALL(access, "/dev/null", 0));
    MUST(fchdir(home));
    unlink("one/in/f"), unlink("three/in/f"), rmdir("one/in"), rmdir("three/in"), rmdir("one"), rmdir("three");
    close_all();
}

/* A file without a name gets its first one once, and none if it was made so; one that has lost its last gets none. */
static void first_names(void) {
    char path[64];
    for (int excl = 0; excl < 2; excl++) {
        int fd = MUST(open(".", O_TMPFILE | O_RDWR | (excl ? O_EXCL : 0), 0600));
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        put(home, "there", "there");
        if (!excl)
            ONE("link onto one", CALL(linkat, AT_FDCWD, path, home, "there", AT_SYMLINK_FOLLOW));
        ONE("first link", CALL(linkat, AT_FDCWD, path, home, "a", AT_SYMLINK_FOLLOW));
        ONE("second link", CALL(linkat, AT_FDCWD, path, home, "b", AT_SYMLINK_FOLLOW));
        unlink("a"), unlink("b"), unlink("there");
        ONE("link after the last", CALL(linkat, AT_FDCWD, path, home, "c", AT_SYMLINK_FOLLOW));
    }
    close_all();
}

int main(void) {
    begin();
    first_names();
    renamed_directories();
    open_flags();
    clean();
    paths();
    clean();
    times_of();
    clean();
    end();
    return 0;
}
