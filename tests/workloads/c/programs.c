/* What execve takes and keeps: files that are open for writing, scripts, names by descriptors, settings of prctl. What /proc says of
 * programs and files that are gone. */
#include "calls.h"
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>

static char text[1000];

static void copy(int to) {
    int from = MUST(open("/proc/self/exe", O_RDONLY));
    struct stat s;
    MUST(fstat(from, &s));
    for (off_t at = 0; at < s.st_size;)
        MUST(sendfile(to, from, &at, s.st_size));
    close(from);
}

static void put(const char *path, const char *what, int size) {
    int fd = MUST(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700));
    MUST(write(fd, what, size));
    close(fd);
}

/* The status of a program that is run in a child; the negative errno if it cannot be. */
static int at(int fd, const char *path, int flags) {
    char *args[] = {"zero", "one", "two words", NULL};
    int status, tell[2], why = 0;
    MUST(pipe2(tell, O_CLOEXEC));
    fflush(stdout);
    pid_t pid = MUST(fork());
    if (pid == 0) {
        why = answer(syscall(SYS_execveat, fd, path, args, environ, flags));
        MUST(write(tell[1], &why, sizeof why));
        _exit(0);
    }
    close(tell[1]);
    MUST(read(tell[0], &why, sizeof why));
    close(tell[0]);
    waitpid(pid, &status, 0);
    return why ? why : status;
}
static int run(const char *path) { return at(AT_FDCWD, path, 0); }

/* A program that has begun, and stays. */
static pid_t begun(const char *path) {
    int tell[2];
    char c, *args[] = {"stays", NULL};
    MUST(pipe(tell));
    pid_t pid = MUST(fork());
    if (pid == 0) {
        dup2(tell[1], 1), close(tell[0]), close(tell[1]);
        execve(path, args, environ);
        _exit(1);
    }
    close(tell[1]);
    MUST(read(tell[0], &c, 1));
    close(tell[0]);
    return pid;
}

static const int ways[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_TRUNC, O_RDWR | O_APPEND, O_WRONLY | O_CREAT, O_PATH | O_WRONLY, 3};

static void attempts(const char *what, const char *path) {
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        long fd = answer(open(path, ways[i], 0700));
        printf("%s, %x: %ld\n", what, ways[i], fd < 0 ? fd : 0);
        if (fd >= 0)
            close(fd);
    }
}

/* Nobody writes a program that runs, nobody runs what is being written. */
static void busy(void) {
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        copy(MUST(open("program", O_WRONLY | O_CREAT, 0700)));
        close(MUST(3));
        int fd = MUST(open("program", ways[i], 0700));
        printf("run while open, %x: %d\n", ways[i], run("program"));
        close(fd);
    }
    copy(MUST(open("program", O_WRONLY | O_CREAT, 0700))), close(3);
    ONE("afterwards", run("program"));
    int fd = MUST(open("program", O_RDWR));
    char *view = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *other = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    ONE("run while mapped", run("program"));
    munmap(view, 4096);
    ONE("mapped, to be written some time", run("program"));
    munmap(other, 4096);
    ONE("not mapped any more", run("program"));

    pid_t pid = begun("program");
    attempts("open while it runs", "program");
    ONE("truncate", CALL(truncate, "program", 4096)), ONE("utimes", CALL(utime, "program", NULL)), ONE("chmod", CALL(chmod, "program", 0500));
    ONE("rename", CALL(rename, "program", "renamed"));
    attempts("open by its new name", "renamed");
    sprintf(text, "/proc/%d/exe", pid);
    ONE("by its link", answer(open(text, O_WRONLY)));
    int child = fork();
    if (child == 0)
        pause();
    fd = MUST(open("renamed", O_RDONLY));
    ONE("map it", mmap(0, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -errno : 0);
    ONE("unlink", CALL(unlink, "renamed"));
    ONE("by its link, without a name", answer(open(text, O_WRONLY))), ONE("to be read", fd = answer(open(text, O_RDONLY)));
    char link[300] = "";
    ONE("the link", readlink(text, link, sizeof link - 1) > 0);
    printf("...%s\n", strlen(link) > 10 ? link + strlen(link) - 10 : link);
    sprintf(text, "/proc/self/fd/%d", fd);
    ONE("by a descriptor", answer(open(text, O_WRONLY)));
    kill(pid, SIGKILL);
    siginfo_t info;
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    ONE("after its end", fd = answer(open(text, O_WRONLY))), close(fd);
    sprintf(text, "/proc/%d/exe", pid);
    ONE("the link of a zombie", answer(readlink(text, link, sizeof link))), ONE("open it", answer(open(text, O_RDONLY)));
    waitpid(pid, NULL, 0), kill(child, SIGKILL), waitpid(child, NULL, 0);
    close_all();

    int memory = MUST(memfd_create("run", 0));
    copy(memory);
    ONE("its own descriptor", at(memory, "", AT_EMPTY_PATH));
    sprintf(text, "/proc/self/fd/%d", memory);
    fd = MUST(open(text, O_RDWR));
    ONE("another one", at(memory, "", AT_EMPTY_PATH)), close(fd);
    fd = MUST(open(text, O_RDONLY));
    ONE("one to read", at(fd, "", AT_EMPTY_PATH));
    close_all();
}

static void script(const char *what, int size) {
    put("script", text, size);
    printf("%s: ", what);
    fflush(stdout);
    printf("%d\n", run("script"));
}

static void line(const char *what, const char *written) {
    script(what, sprintf(text, "%s", written));
}

/* `#!` by the byte. */
static void scripts(void) {
    copy(MUST(open("program", O_WRONLY | O_CREAT, 0700))), close(3);
    setenv("SHOW", "", 1);
    line("plain", "#!program\n"), line("no end", "#!program"), line("blanks", "#! \t program \t a b  c \t\nmore"), line("no name", "#!\n");
    line("only blanks", "#! \t\t\n"), line("only blanks, no end", "#!    "), line("nothing", "#!"), line("empty", ""), line("half", "#");
    line("words", "echo\n"), line("nobody", "#!none\n"), line("a directory", "#!/tmp\n"), line("carriage return", "#!program\r\n");
    memcpy(text, "#!program a\0b\n", 14), script("zero in the argument", 14);
    memcpy(text, "#!program\0 a\n", 13), script("zero in the name", 13);
    memcpy(text, "#!\0program\n", 11), script("zero before the name", 11);
    for (int size = 253; size <= 258; size++) {
        char what[40];
        memset(text, 'x', sizeof text), memcpy(text, "#!program ", 10), text[size] = '\n';
        sprintf(what, "argument up to %d", size), script(what, size + 1);
        memset(text, '/', sizeof text), memcpy(text, "#!.", 3), memcpy(text + size - 7, "program\n", 8);
        sprintf(what, "name up to %d", size), script(what, size + 1);
        sprintf(what, "no end, %d", size), script(what, size);
        memset(text, ' ', sizeof text), memcpy(text, "#!", 2), memcpy(text + size - 7, "program\n", 8);
        sprintf(what, "blanks up to %d", size), script(what, size + 1);
        text[size] = ' ', sprintf(what, "blanks behind %d", size), script(what, 400);
    }
    char name[20] = "program";
    for (int deep = 0; deep < 8; deep++) {
        int size = sprintf(text, "#!%s %d\n", name, deep);
        sprintf(name, "script%d", deep);
        put(name, text, size);
        printf("%d deep: ", deep + 1);
        fflush(stdout);
        printf("%d\n", run(name));
    }
    line("itself", "#!script\n");
    put("script7", "#!none\n", 7), put("script6", "#!script7\n", 10), ONE("nobody, deep below", run("script6"));
    line("plain", "#!program\n");
    int fd = MUST(open("script", O_WRONLY));
    ONE("open for writing", run("script")), close(fd);
    fd = MUST(open("program", O_WRONLY));
    ONE("its interpreter is", run("script")), close(fd);
    fd = MUST(open("script", O_RDONLY));
    ONE("by a descriptor", at(fd, "", AT_EMPTY_PATH)), MUST(mkdir("d", 0700)), MUST(chdir("d")), ONE("from elsewhere", at(fd, "", AT_EMPTY_PATH));
    MUST(chdir("..")), MUST(rmdir("d"));
    ONE("again", at(fd, "", AT_EMPTY_PATH)), MUST(fcntl(fd, F_SETFD, FD_CLOEXEC)), ONE("that is closed", at(fd, "", AT_EMPTY_PATH));
    close(fd), fd = MUST(open(".", O_RDONLY | O_DIRECTORY)), ONE("by its directory", at(fd, "script", 0));
    MUST(fcntl(fd, F_SETFD, FD_CLOEXEC)), ONE("that is closed", at(fd, "script", 0)), ONE("no script", at(fd, "program", 0)), close(fd);
    ONE("the directory", at(AT_FDCWD, "", AT_EMPTY_PATH));
    chmod("script", 0600), ONE("no rights", run("script")), chmod("script", 0700), chmod("program", 0600), ONE("no rights there", run("script"));
    unsetenv("SHOW");
    for (int deep = 0; deep < 8; deep++)
        sprintf(name, "script%d", deep), MUST(unlink(name));
    MUST(unlink("script")), MUST(unlink("program"));
}

/* Whether it is that for a descriptor of 900; less depends on what the caller has open. */
static int show_room(void) {
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(text, sizeof text, status))
        if (!strncmp(text, "FDSize:", 7))
            printf("room for all: %d\n", atoi(text + 7) == 1024);
    return 0;
}

/* How much room the table of descriptors has in a new program, whose old one others had, too, or nobody. */
static void rooms(void) {
    char *args[] = {"room", NULL};
    for (int shared = 0; shared < 2; shared++) {
        fflush(stdout);
        pid_t pid = MUST(fork());
        if (pid == 0) {
            close(home), show_room(), fflush(stdout), pid = getpid();
            if (shared && syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0) == 0) {
                while (getppid() == pid)
                    usleep(1000);
                _exit(0);
            }
            execve("/proc/self/exe", args, environ);
        }
        waitpid(pid, NULL, 0);
    }
}

static int show_settings(const char *when) {
    int death = 0, reaper = 0;
    prctl(PR_GET_PDEATHSIG, &death), prctl(PR_GET_CHILD_SUBREAPER, &reaper);
    printf("%s: dumpable %d, capabilities %d, death %d, reaper %d, slack %d, no new rights %d\n", when, prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_KEEPCAPS), death, reaper, prctl(PR_GET_TIMERSLACK), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    return 3;
}

/* What prctl sets, and what of that a child and a new program have. */
static void settings(void) {
    char *args[] = {"settings", NULL};
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        show_settings("first");
        ONE("dumpable 2", CALL(prctl, PR_SET_DUMPABLE, 2)), ONE("capabilities 2", CALL(prctl, PR_SET_KEEPCAPS, 2));
        ONE("new rights", CALL(prctl, PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)), ONE("and more", CALL(prctl, PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
        ONE("asked with more", CALL(prctl, PR_GET_NO_NEW_PRIVS, 1, 0, 0, 0)), ONE("no signal", CALL(prctl, PR_SET_PDEATHSIG, 65));
        prctl(PR_SET_DUMPABLE, 0), prctl(PR_SET_KEEPCAPS, 1), prctl(PR_SET_PDEATHSIG, SIGUSR1), prctl(PR_SET_CHILD_SUBREAPER, 1);
        prctl(PR_SET_TIMERSLACK, 1234), prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        show_settings("set");
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            show_settings("child");
            prctl(PR_SET_TIMERSLACK, 5), prctl(PR_SET_TIMERSLACK, 0), show_settings("back");
            exit(0);
        }
        waitpid(child, NULL, 0);
        fflush(stdout);
        execve("/proc/self/exe", args, environ);
        _exit(1);
    }
    waitpid(pid, NULL, 0);
}

/* Whose lines in maps these are. */
static void mapped(const char *what) {
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(text, sizeof text, maps))
        if (strstr(text, what))
            printf("%s", strrchr(text, '/'));
    fclose(maps);
}

/* What a link says, below the directory in which the program runs. */
static void says(const char *what, const char *path) {
    char link[5000];
    long size = answer(readlink(path, link, sizeof link - 1));
    link[size < 0 ? 0 : size] = 0;
    printf("%s: %s %ld\n", what, link + (strncmp(link, base, strlen(base)) ? 0 : strlen(base)), size < 0 ? size : 0);
}
static void fd_says(const char *what, int fd) { sprintf(text, "/proc/self/fd/%d", fd), says(what, text); }

/* A path that begins at a descriptor. */
static char *from(int fd, const char *rest) { return sprintf(text, "/proc/self/fd/%d%s", fd, rest), text; }

/* The links of descriptors whose files have lost their names; maps. */
static void gone(void) {
    char link[300];
    int fd[3] = {MUST(open("a", O_RDWR | O_CREAT, 0600)), MUST(open("a", O_PATH)), MUST(memfd_create("c", 0))};
    MUST(ftruncate(fd[0], 4096)), MUST(ftruncate(fd[2], 4096));
    void *views[] = {mmap(0, 4096, PROT_READ, MAP_SHARED, fd[0], 0), mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd[2], 0)};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            sprintf(text, "/proc/self/fd/%d", fd[i]);
            long size = readlink(text, link, sizeof link - 1);
            link[size < 0 ? 0 : size] = 0;
            printf("%d: %s\n", round, strrchr(link, '/'));
        }
        mapped("/a"), mapped("memfd:");
        /* One of two names goes, then the other. */
        if (round == 0)
            MUST(linkat(AT_FDCWD, "a", AT_FDCWD, "b", 0)), MUST(unlink("b"));
        else if (round == 1)
            MUST(unlink("a"));
    }
    munmap(views[0], 4096), munmap(views[1], 4096);
    close_all();
    MUST(mkdir("d", 0700)), MUST(chdir("d")), fd[0] = MUST(open(".", O_RDONLY)), fd[1] = MUST(open("f", O_RDWR | O_CREAT, 0600));
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++) {
            sprintf(text, i == 2 ? "/proc/self/cwd" : "/proc/self/fd/%d", fd[i]);
            long size = readlink(text, link, sizeof link - 1);
            link[size < 0 ? 0 : size] = 0;
            printf("directory: %s\n", link + (strncmp(link, base, strlen(base)) ? 0 : strlen(base)));
        }
        if (round == 0)
            MUST(rename("f", "../g"));
        if (round == 1)
            MUST(renameat(home, "g", home, "d/h")), MUST(renameat(home, "d", home, "e"));
        if (round == 2)
            MUST(rename("h", "f")), MUST(unlink("f")), MUST(renameat(home, "e", home, "d")), MUST(unlinkat(home, "d", AT_REMOVEDIR));
    }
    MUST(fchdir(home)), close_all();
}

/* Of two names of a file, the one by which it was opened is gone, comes again, is called like the other. */
static void of_two(void) {
    int fd[3];
    MUST(fd[0] = open("h1", O_RDWR | O_CREAT, 0600)), MUST(link("h1", "h2")), MUST(fd[1] = open("h2", O_RDONLY));
    MUST(unlink("h1")), fd_says("one of two", fd[0]), fd_says("the other", fd[1]);
    MUST(link("h2", "h1")), fd_says("again", fd[0]), MUST(fd[2] = open(from(fd[0], ""), O_RDONLY)), fd_says("opened again", fd[2]);
    MUST(rename("h2", "h3")), fd_says("renamed", fd[1]), MUST(rename("h1", "h3")), fd_says("both there", fd[1]);
    MUST(mkdir("d", 0700)), MUST(rename("h3", "d/h1")), fd_says("replaced", fd[1]), MUST(unlink("h1")), fd_says("moved", fd[1]);
    for (int i = 0; i < 200; i++)
        sprintf(text, "d/%03d", i), MUST(i % 2 ? mkdir(text, 0700) : symlink("x", text));
    MUST(rename("d/h1", "d/199/n")), fd_says("below many", fd[1]), MUST(unlink("d/199/n"));
    for (int i = 0; i < 200; i++)
        sprintf(text, "d/%03d", i), MUST(i % 2 ? rmdir(text) : unlink(text));
    MUST(rmdir("d")), close_all();
    /* A pipe by a name, and a link itself. */
    MUST(mkfifo("p", 0600)), MUST(symlink("p", "l")), MUST(fd[0] = open("l", O_RDWR)), MUST(fd[1] = open("l", O_PATH | O_NOFOLLOW));
    MUST(rename("p", "q")), MUST(rename("l", "m")), fd_says("a pipe", fd[0]), fd_says("a link", fd[1]);
    MUST(fd[0] = open("q", O_RDWR)), MUST(fd[1] = open("m", O_PATH | O_NOFOLLOW)), MUST(unlink("q")), MUST(unlink("m"));
    fd_says("a pipe", fd[0]), fd_says("a link", fd[1]), close_all();
}

/* What is opened through the link of a descriptor, or of the working directory, is known by where it is. */
static void through(void) {
    enum { DEEP = 24 };
    int fd[DEEP], pair[2];
    struct stat s;
    MUST(mkdir("d", 0700)), MUST(mkdir("d/e", 0700));
    fd[0] = MUST(open("d", O_RDONLY)), fd[1] = MUST(open(from(fd[0], "/e"), O_RDONLY));
    fd_says("below", fd[1]), fd[2] = MUST(open(from(fd[1], "/.."), O_RDONLY)), fd_says("above", fd[2]);
    MUST(dup2(fd[1], fd[0])), fd_says("its own link", fd[0]), ONE("by it", CALL(openat, fd[0], "x", O_RDONLY));
    ONE("of a file", answer(open(from(fd[0], "/x"), O_RDWR | O_CREAT, 0600))), fd_says("in it", fd[2] + 1);
    char number[20];
    fd[3] = MUST(open("/proc/self/fd", O_RDONLY)), sprintf(number, "/%d", fd[0]), says("twice", from(fd[3], number));
    MUST(chdir("d")), MUST(renameat(home, "d", home, "f")), says("moved", "/proc/self/cwd"), fd_says("with it", fd[0]);
    ONE("through the link", answer(open("/proc/self/cwd/e/x", O_RDONLY))), fd_says("moved, too", fd[3] + 1);
    says("of the root", "/proc/self/root"), ONE("through it", stat("/proc/self/root/proc/self/root/../dev/null", &s));
    MUST(unlink("e/x")), fd[0] = MUST(open("e", O_RDONLY)), MUST(rmdir("e")), fd_says("gone", fd[0]);
    ONE("gone", stat(from(fd[0], ""), &s)), ONE("nothing in it", answer(open(from(fd[0], "/x"), O_RDWR | O_CREAT, 0600)));
    MUST(mkdirat(home, "g", 0700)), MUST(chdir("../g")), MUST(unlinkat(home, "g", AT_REMOVEDIR));
    MUST(mkdirat(home, "g (deleted)", 0700)), MUST(mkdirat(home, "g (deleted)/x", 0700));
    says("called so", "/proc/self/cwd"), ONE("and nothing in it", stat("/proc/self/cwd/x", &s));
    MUST(fchdir(home)), MUST(rmdir("g (deleted)/x")), MUST(rmdir("g (deleted)")), MUST(rmdir("f")), close_all();

    MUST(mkdir("d", 0700)), fd[0] = MUST(open("d", O_RDONLY));
    for (int i = 1; i < DEEP; i++)
        MUST(mkdirat(fd[i - 1], "d", 0700)), fd[i] = MUST(open(from(fd[i - 1], "/d"), O_RDONLY));
    fd_says("one through another", fd[DEEP - 1]), ONE("by the last", CALL(openat, fd[DEEP - 1], "x", O_RDONLY));
    for (int i = DEEP - 2; i >= 0; i--)
        MUST(unlinkat(fd[i], "d", AT_REMOVEDIR));
    MUST(rmdir("d")), fd_says("and all gone", fd[DEEP - 1]), close_all();

    /* A descriptor that only names another one, which does so, too. */
    MUST(pipe(pair));
    for (int i = 0; i < 20000; i++)
        fd[0] = MUST(open(from(pair[0], ""), O_PATH)), MUST(dup2(fd[0], pair[0])), close(fd[0]);
    ONE("names", fstat(pair[0], &s)), printf("a pipe: %d\n", S_ISFIFO(s.st_mode)), close_all();
}

/* A file about a process: without what changes from one to the other. */
static void tell(int pid, const char *file) {
    static const char *const lines[] = {"Name:", "Umask:", "State:", "FDSize:", "Vm", "Rss", "Threads:", "Max "};
    static char path[100], whole[8192];
    sprintf(path, "/proc/%d/%s", pid, file);
    int fd = answer(open(path, O_RDONLY));
    long size = fd < 0 ? fd : answer(read(fd, whole, sizeof whole - 1));
    printf("%s: %ld\n", strncmp(file, "task/", 5) ? file : strrchr(file, '/'), size < 0 ? size : size > 0);
    fd < 0 ? 0 : close(fd);
    whole[size < 0 ? 0 : size] = 0;
    if (size > 0 && strstr(file, "stat") && whole[0] != 'N' && strchr(whole, '(')) {
        char name[20], state;
        unsigned flags, sizes[2];
        int threads, status;
        sscanf(strchr(whole, '('), "%19s %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d %*d %*u %u %u", name, &state, &flags,
               &threads, &sizes[0], &sizes[1]);
        status = atoi(strrchr(whole, ' '));
        printf("%s %c ending %d, threads %d, size %u %u, status %d\n", name, state, !!(flags & 4), threads, sizes[0], sizes[1], status);
    } else if (!strcmp(file, "status") || !strcmp(file, "limits")) {
        for (char *line = strtok(whole, "\n"); line; line = strtok(NULL, "\n"))
            for (unsigned i = 0; i < sizeof lines / sizeof *lines; i++)
                if (!strncmp(line, lines[i], strlen(lines[i])))
                    printf("  %.25s\n", line);
    } else if (strcmp(file, "cgroup") && strcmp(file, "mounts")) {
        printf("%s\n", whole);
    }
}

static void tell_all(int pid) {
    static const char *const files[] = {"stat", "status", "statm", "cmdline", "environ", "comm", "maps", "limits", "oom_score_adj",
                                        "cgroup", "mounts"}, *const links[] = {"exe", "cwd", "root", "fd/0"}, *const dirs[] = {"", "fd", "task"};
    static char path[100], link[300];
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++)
        tell(pid, files[i]);
    for (int i = 0; i < 4; i++) {
        sprintf(path, "/proc/%d/%s", pid, links[i]);
        int fd = answer(open(path, O_RDONLY)), name = i == 3 ? 0 : answer(open(path, O_PATH | O_NOFOLLOW));
        long size = answer(readlink(path, link, sizeof link));
        printf("%s: says %ld, open %d, name %d\n", links[i], size < 0 ? size : 0, fd < 0 ? fd : 0, name < 0 ? name : 0);
        fd < 0 ? 0 : close(fd), name <= 0 ? 0 : close(name);
    }
    for (int i = 0; i < 3; i++) {
        int entries = 0;
        sprintf(path, "/proc/%d/%s", pid, dirs[i]);
        DIR *dir = opendir(path);
        while (dir && readdir(dir))
            entries++;
        printf("%s/: %d %d\n", dirs[i], dir ? 0 : -errno, i ? entries : entries > 10);
        dir ? closedir(dir) : 0;
    }
    sprintf(path, "task/%d/stat", pid), tell(pid, path), sprintf(path, "task/%d/comm", pid), tell(pid, path);
    sprintf(path, "task/%d/statm", pid), tell(pid, path);
}

static void *stays(void *unused) { return (void)unused, usleep(50000), pause(), NULL; }

/* A thread whose leader is gone: what it has is shown by its own directory. */
static void *left(void *unused) {
    static const char *const of[] = {"thread-self", "self"}, *const names[] = {"exe", "cwd", "root", "fd/0", "fd", "environ", "mounts", "statm"};
    char path[100];
    (void)unused;
    while (sprintf(path, "/proc/%d/root", getpid()), readlink(path, text, 10) >= 0)
        usleep(1000);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 8; i++) {
            sprintf(path, "/proc/%s/%s", of[k], names[i]);
            long says = i < 4 ? answer(readlink(path, text, sizeof text)) : 0, fd = answer(open(path, O_RDONLY));
            printf("left, %s: says %ld, open %ld", path, says < 0 ? says : 0, fd < 0 ? fd : 0);
            printf(", read %d\n", i > 4 && fd >= 0 ? answer(read(fd, text, 5)) > 0 : 0), fd >= 0 ? close(fd) : 0;
        }
    fflush(stdout), _exit(0);
}

/* What is open when its process ends. */
static void outlives(void) {
    static const char *const files[] = {"stat", "status", "statm", "cmdline", "environ", "comm", "maps", "limits", "oom_score", "oom_score_adj",
                                        "cgroup", "mounts", "task", "fd", ""};
    enum { N = sizeof files / sizeof *files };
    int fd[N], task[N];
    char path[100];
    siginfo_t info;
    fflush(stdout);
    pid_t pid = begun("/proc/self/exe");
    for (int i = 0; i < N; i++) {
        sprintf(path, "/proc/%d/%s", pid, files[i]), fd[i] = MUST(open(path, O_RDONLY));
        sprintf(path, "/proc/%d/task/%d/%s", pid, pid, files[i]), task[i] = i < 12 ? MUST(open(path, O_RDONLY)) : fd[i];
    }
    for (int round = 0; round < 3; round++) {
        round == 1 ? kill(pid, SIGKILL), waitid(P_PID, pid, &info, WEXITED | WNOWAIT) : round == 2 ? waitpid(pid, NULL, 0) : 0;
        for (int i = 0; i < N; i++) {
            long read_0 = answer(read(fd[i], text, 0)), size = answer(read(fd[i], text, 10)), of_task = answer(read(task[i], text, 10));
            if (i >= 12)
                size = of_task = CALL(getdents64, fd[i], buffer, 1000);
            printf("outlived, %d %s: %ld %ld %ld\n", round, files[i], read_0, size < 0 ? size : size > 0, of_task < 0 ? of_task : of_task > 0);
            lseek(fd[i], 0, SEEK_SET), lseek(task[i], 0, SEEK_SET);
        }
        ONE("below", answer(openat(fd[N - 1], "stat", O_RDONLY)) < 0 ? -errno : 0);
        ONE("below task", answer(openat(fd[N - 3], ".", O_PATH)) < 0 ? -errno : 0);
        ONE("below fd", answer(openat(fd[N - 2], "0", O_RDONLY)) < 0 ? -errno : 0);
    }
    for (int i = 0; i < N; i++)
        close(fd[i]), i < 12 ? close(task[i]) : 0;
}

/* The first process is no zombie. */
static void first(void) {
    for (const char *const *file = (const char *const[]){"mounts", "status", "cmdline", NULL}; *file; file++)
        sprintf(text, "/proc/1/%s", *file), printf("first, %s: %d\n", *file, answer(open(text, O_RDONLY)) < 0 ? -errno : 0);
    close_all();
    int fd = MUST(open("/proc/1/stat", O_RDONLY));
    MUST(read(fd, text, sizeof text)), printf("a zombie: %d\n", strchr(text, ')')[2] == 'Z'), close(fd);
}

/* What has ended and was not waited for; whose leader is gone; what is gone. */
static void zombies(void) {
    siginfo_t info;
    pthread_t thread;
    char name[20] = "", path[40];
    setvbuf(stdout, 0, _IOFBF, 1 << 16), fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        prctl(PR_SET_NAME, "ended"), _exit(3);
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT), tell_all(pid);
    static const char *const files[] = {"stat", "cmdline", "maps", "comm"};
    int fd[4];
    for (int i = 0; i < 4; i++)
        sprintf(path, "/proc/%d/%s", pid, files[i]), fd[i] = MUST(open(path, O_RDONLY));
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 4; i++)
        ONE("gone", answer(read(fd[i], path, 10)));
    fflush(stdout), pid = fork();
    if (pid == 0)
        prctl(PR_SET_NAME, "leader"), pthread_create(&thread, NULL, stays, NULL), syscall(SYS_exit, 0);
    sprintf(path, "/proc/%d/stat", pid);
    for (int i = 0; i < 5000 && !strchr(name, 'Z'); i++) {
        int file = open(path, O_RDONLY);
        read(file, text, 100), close(file), strncpy(name, strchr(text, ')'), 4), usleep(1000);
    }
    puts("leader"), tell_all(pid), kill(pid, SIGKILL), waitpid(pid, NULL, 0);
    fflush(stdout), pid = fork();
    if (pid == 0)
        pthread_create(&thread, NULL, left, NULL), syscall(SYS_exit, 0);
    waitpid(pid, NULL, 0), outlives(), first();

    fd[0] = MUST(open("/proc/self/comm", O_RDONLY));
    for (int i = 0; i < 4; i++) {
        sprintf(name, "name %d", i), prctl(PR_SET_NAME, name), memset(name, 0, sizeof name);
        ONE("read again", answer(pread(fd[0], name, i == 1 ? 3 : 20, i == 2 ? 3 : 0))), puts(name);
    }
    close_all(), fflush(stdout);
}

static char file_text[1 << 16];
static char *all_of(const char *path) {
    int fd = MUST(open(path, O_RDONLY));
    long n = 0, got;
    while ((got = read(fd, file_text + n, sizeof file_text - 1 - n)) > 0)
        n += got;
    close(fd), file_text[n] = 0;
    return file_text;
}

/* Names that have everything in them, where /proc shows them; numbers that it does not write; settings that are only told. */
static void odd_names(void) {
    static const char *const names[] = {"it's \"x\"", "a\\b\tc", "two\nlines", "\xc3\xa4\xff", ") R 1 ("};
    for (int i = 0; i < 5; i++) {
        int fd = MUST(open(names[i], O_RDWR | O_CREAT, 0600)), memory = MUST(memfd_create(names[i], 0));
        MUST(ftruncate(fd, 4096)), MUST(ftruncate(memory, 4096));
        char *one = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0), *two = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memory, 0), start[32];
        for (int j = 0; j < 2; j++) {
            sprintf(start, "%lx-", (long)(j ? two : one));
            char *line = strstr(all_of("/proc/self/maps"), start);
            line[strcspn(line, "\n")] = 0, puts(line + 73 + (j ? 0 : strlen(base)));
        }
        sprintf(start, "/proc/self/fd/%d", memory);
        long n = readlink(start, file_text, 99);
        printf("%ld %.*s\n", n, (int)n, file_text);
        prctl(PR_SET_NAME, names[i]);
        char *line = all_of("/proc/self/status");
        printf("%.*s\n", (int)strcspn(line, "\n"), line);
        line = strchr(all_of("/proc/self/stat"), '('), strrchr(line, ')')[1] = 0, puts(line);
        munmap(one, 4096), munmap(two, 4096), close(fd), close(memory), MUST(unlink(names[i]));
    }
    static const char *const numbers[] = {"/proc/self/fd/1", "/proc/self/fd/01", "/proc/self/fd/+1", "/proc/01", "/proc/self/task/+1", "/proc/self/fd/1x"};
    for (int i = 0; i < 6; i++)
        ONE(numbers[i], answer(readlink(numbers[i], file_text, 9) > 0 ? 0 : -1));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int tsc = 0;
        long real_time = 0, policy = 0, priority = 0;
        int ten = 10;
        CALL(sched_setscheduler, 0, SCHED_FIFO, &ten);
        sscanf(strrchr(all_of("/proc/self/stat"), ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %ld %*d %*d %*d %*u %*u %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*d %*d %ld %ld", &priority, &real_time, &policy);
        printf("priority %ld %ld, policy %ld\n", priority, real_time, policy);
        ONE("personality", personality(-1)), ONE("fixed", personality(ADDR_NO_RANDOMIZE)), ONE("it", personality(-1));
        fflush(stdout), pid = fork();
        if (pid == 0)
            ONE("of a child", personality(-1)), fflush(stdout), _exit(0);
        waitpid(pid, NULL, 0), ONE("back", personality(0)), ONE("it", personality(-1));
        ONE("timing", CALL(prctl, PR_GET_TIMING)), ONE("sampled", CALL(prctl, PR_SET_TIMING, PR_TIMING_STATISTICAL)), ONE("exact", CALL(prctl, PR_SET_TIMING, PR_TIMING_TIMESTAMP));
        ONE("counter", CALL(prctl, PR_GET_TSC, &tsc)), ONE("it", tsc), ONE("nowhere", CALL(prctl, PR_GET_TSC, 8));
        ONE("bits", CALL(prctl, PR_GET_SECUREBITS)), CALL(prctl, PR_SET_KEEPCAPS, 1), ONE("and kept", CALL(prctl, PR_GET_SECUREBITS));
        ONE("broken pages", CALL(prctl, PR_MCE_KILL_GET, 0, 0, 0, 0)), ONE("with more", CALL(prctl, PR_MCE_KILL_GET, 1, 0, 0, 0));
        ONE("huge pages, with more", CALL(prctl, PR_GET_THP_DISABLE, 1, 0, 0, 0));
        fflush(stdout), _exit(0);
    }
    waitpid(pid, NULL, 0);
    ONE("times of nothing", CALL(utimensat, AT_FDCWD, NULL, NULL, 0));
}

int main(int argc, char **argv) {
    if (!strcmp(argv[0], "settings"))
        return show_settings("afterwards");
    if (!strcmp(argv[0], "room"))
        return show_room();
    if (!strcmp(argv[0], "stays"))
        return MUST(write(1, "", 1)), pause();
    if (getenv("SHOW")) {
        for (int i = 0; i < argc; i++)
            printf("[%.40s %zu] ", argv[i], strlen(argv[i]));
        return 7;
    }
    if (argc > 1)
        return 5;
    begin();
    busy();
    scripts();
    settings();
    rooms();
    gone();
    of_two();
    through();
    zombies();
    odd_names();
    end();
    return 0;
}
