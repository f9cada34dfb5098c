/* Memory calls with many combinations of arguments: every answer, and what the range is afterwards. Linux is the oracle.
 * `memcalls numbers`: addresses, lengths and flags at their limits; `memcalls scenes`: ranges over segments of every kind;
 * `memcalls locks`: what is there at once of what is mapped while all is locked;
 * `memcalls limits`: what counts for which limit, alone and by two threads; `memcalls execve`: arguments and stacks; `memcalls`: all but the last. A line for each group of calls,
 * with a sum over their answers; with `-v` behind it every answer, to be compared between two systems. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long word;
enum { PAGES = 12, RW = PROT_READ | PROT_WRITE };
#define PG 4096ul
#define END 0x7ffffffff000ul /* one past the last address of a program */
#define A 0x100000000000ul   /* the window; far from everything else */
#define TARGET (A + 64 * PG) /* where moves go to */
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define COUNT(x) (sizeof(x) / sizeof(x)[0])

static int verbose, file, read_only;
static uint64_t sum;
static unsigned lines;

/* One answer: printed, or added to the group's sum. */
__attribute__((format(printf, 1, 2))) static void answer(const char *format, ...) {
    char text[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (verbose)
        puts(text);
    for (const char *c = text; *c; c++)
        sum = (sum ^ (unsigned char)*c) * 0x100000001b3;
    lines++;
}

static void group(const char *name, const char *what) {
    printf("%s %s: %u answers, %016lx\n", name, what, lines, (word)sum);
    sum = 0xcbf29ce484222325;
    lines = 0;
}

static long call(long number, word a, word b, word c, word d, word e, word f) {
    long got = syscall(number, a, b, c, d, e, f);
    return got == -1 ? -errno : got;
}

/* An address as a place in the window, which is the same on every system. */
static const char *place(long at) {
    static char text[4][32];
    static int turn;
    char *to = text[turn++ % 4];
    if (at < 0 && at > -4096)
        snprintf(to, 32, "E%ld", -at);
    else if ((word)at >= A && (word)at < A + (1ul << 32))
        snprintf(to, 32, "A+%lx", (word)at - A);
    else
        snprintf(to, 32, "%s", (word)at < 65536 ? "small" : "elsewhere");
    return to;
}

static sigjmp_buf back;

static void denied(int signal) {
    siglongjmp(back, signal);
}

/* What a load from the page gives: its value, or the signal. */
static void look(word at, char *to) {
    int signal = sigsetjmp(back, 1);
    if (signal)
        *to = signal == SIGSEGV ? '-' : signal == SIGBUS ? '!' : '?';
    else {
        unsigned char value = *(volatile unsigned char *)at;
        *to = value < 16 ? "0123456789abcdef"[value] : '*';
    }
}

static char maps[1 << 16];

static void read_maps(void) {
    int fd = open("/proc/self/maps", O_RDONLY);
    size_t len = 0;
    for (ssize_t got; len < sizeof maps - 1 && (got = read(fd, maps + len, sizeof maps - 1 - len)) > 0;)
        len += (size_t)got;
    maps[len] = 0;
    close(fd);
}

/* The segments from `from` to `to`, and what is in their pages. Systems differ in when they join neighbours that could be one. */
static void describe(word from, word to, char *out) {
    word last = 0, next = 0;
    char before[5] = "";
    read_maps();
    for (char *line = maps; *line; line = strchr(line, '\n') + 1) {
        word start, end, offset;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s %lx", &start, &end, rights, &offset) != 4 || end <= from || start >= to)
            continue;
        char *slash = strchr(line, '/');
        int named = slash && slash < strchr(line, '\n');
        if (!named)
            offset = start;
        if (last != start || strcmp(rights, before) || offset != next) {
            out += sprintf(out, " %lx%s", (start - from) / PG, rights);
            if (named)
                out += sprintf(out, "@%lx", offset / PG);
            *out++ = '=';
        }
        last = end, next = offset + end - start;
        strcpy(before, rights);
        for (word at = start; at < end && at < to && at < start + 16 * PG; at += PG)
            look(at, out++);
    }
    *out = 0;
}

static void clear(void) {
    munmap((void *)(A - 32 * PG), 256 * PG);
}

/* The kinds of segments, a letter a page; the same letter twice is one segment. */
static void build(const char *scene) {
    clear();
    for (word i = 0; scene[i];) {
        word n = 1, at = A + i * PG;
        char kind = scene[i];
        while (scene[i + n] == kind)
            n++;
        int flags = ANON | MAP_FIXED, fd = -1, offset = 0, touch = 1, rights = RW;
        switch (kind) {
        case '.': i += n; continue;
        case 'r': rights = PROT_READ; break;
        case 'n': rights = PROT_NONE; break;
        case 'W': rights = PROT_WRITE; break;
        case 'x': rights = RW | PROT_EXEC; break;
        case 'u': touch = 0; break;
        case 'o': touch = 0; break;
        case 'g': flags |= MAP_GROWSDOWN; break;
        case 'S': flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED; break;
        case 'N': flags |= MAP_NORESERVE; break;
        case 'f': flags = MAP_PRIVATE | MAP_FIXED, fd = file; break;
        case 'F': flags = MAP_SHARED | MAP_FIXED, fd = file; break;
        case 'E': flags = MAP_SHARED | MAP_FIXED, fd = file, offset = 14, touch = 0; break;
        case 'e': flags = MAP_PRIVATE | MAP_FIXED, fd = file, offset = 14, touch = 0; break;
        case 'R': flags = MAP_SHARED | MAP_FIXED, fd = read_only, rights = PROT_READ, touch = 0; break;
        }
        if (fd >= 0 && !offset)
            offset = (int)i;
        int first = kind == 'R' ? PROT_READ : RW;
        if (mmap((void *)at, n * PG, first, flags, fd, offset * (long)PG) != (void *)at)
            printf("no scene: %s, page %lu, errno %d\n", scene, i, errno);
        for (word k = 0; touch && k < n; k++)
            *(volatile char *)(at + k * PG) = (char)(i + k + 1);
        if (rights != first)
            mprotect((void *)at, n * PG, rights);
        if (kind == 'l')
            mlock((void *)at, n * PG);
        if (kind == 'o')
            call(SYS_mlock2, at, n * PG, 1, 0, 0, 0);
        i += n;
    }
}

/* --- Numbers: addresses, lengths, flags --------------------------------------------------------------------------------- */

static const word ADDRESSES[] = {0, 1, PG, A, A + 1, A + PG - 1, A + PG, A + 2 * PG, A + 3 * PG, A + 4 * PG, A + 5 * PG,
                                 END - PG, END, END + PG, 1ul << 47, 0xffff800000000000, 1ul << 63, -PG, -1ul};
static const word LENGTHS[] = {0, 1, PG - 1, PG, PG + 1, 2 * PG, 3 * PG, 5 * PG, 6 * PG, 1ul << 39, 1ul << 40, END - A, END - A + PG,
                               END, END + PG, 1ul << 47, 1ul << 63, -A, -A - PG, -PG, -PG + 1, -1ul};

/* A call with an address and a length, and what its third argument may be. */
struct Numbers {
    const char *name;
    long number;
    const word *flags;
    size_t count;
    int destroys;
};

static const word NO_FLAGS[] = {0};
static const word PROTECTIONS[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 0x1000, 0x01000003, 0x02000003, 0x03000003, 0x04000003, 1ul << 32 | 3};
static const word ADVICE[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 27, 100, -1ul, 1ul << 32};
static const word SYNCS[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 16, -1ul, 1ul << 32, 1ul << 32 | 4};
static const word LOCKS[] = {0, 1, 2, 3, -1ul, 1ul << 32};
static const word VECTORS[] = {0, 1, A, A + 2 * PG, A + 5 * PG - 1, END - PG, END, 1ul << 63, -1ul};

static const struct Numbers NUMBERS[] = {
    {"munmap", SYS_munmap, NO_FLAGS, 1, 1},
    {"mprotect", SYS_mprotect, PROTECTIONS, COUNT(PROTECTIONS), 0},
    {"madvise", SYS_madvise, ADVICE, COUNT(ADVICE), 1},
    {"msync", SYS_msync, SYNCS, COUNT(SYNCS), 0},
    {"mlock", SYS_mlock, NO_FLAGS, 1, 0},
    {"mlock2", SYS_mlock2, LOCKS, COUNT(LOCKS), 0},
    {"munlock", SYS_munlock, NO_FLAGS, 1, 0},
    {"mincore", SYS_mincore, VECTORS, COUNT(VECTORS), 0},
};

/* Whether a range that the call would obey has other things than the window in it. */
static int is_dangerous(word at, word len) {
    word end = at + ((len + PG - 1) & -PG);
    return end > (at & -PG) && (at < A - 32 * PG ? end > 16 * PG && at < END : at >= A && at < END && end > A + (2ul << 40)) ;
}

static void numbers(void) {
    char text[2048];
    for (size_t c = 0; c < COUNT(NUMBERS); c++) {
        const struct Numbers *n = &NUMBERS[c];
        for (size_t a = 0; a < COUNT(ADDRESSES); a++)
            for (size_t f = 0; f < n->count; f++) {
                char *to = text + sprintf(text, "%s(%lx, ..., %lx)", n->name, ADDRESSES[a], n->flags[f]);
                for (size_t l = 0; l < COUNT(LENGTHS); l++) {
                    if (n->destroys && is_dangerous(ADDRESSES[a], LENGTHS[l]))
                        continue;
                    build("wrn.ww");
                    long got = call(n->number, ADDRESSES[a], LENGTHS[l], n->flags[f], 0, 0, 0);
                    to += sprintf(to, " %s", got ? place(got) : "0");
                }
                answer("%s", text);
            }
        group("numbers", n->name);
    }
}

/* mremap: four numbers and flags. */
static void remaps(void) {
    static const word olds[] = {0, A, A + 1, A + PG, A + 3 * PG, A + 4 * PG, END - PG, END, 1ul << 63, -PG};
    static const word lengths[] = {0, 1, PG, 2 * PG, 3 * PG, 1ul << 40, END, 1ul << 63, -A, -PG, -1ul};
    static const word news[] = {0, 1, PG, A, A + PG, TARGET, TARGET + 1, END - PG, END, 1ul << 63, -PG};
    for (size_t a = 0; a < COUNT(olds); a++) {
        for (size_t l = 0; l < COUNT(lengths); l++)
            for (size_t m = 0; m < COUNT(lengths); m++)
                for (word flags = 0; flags < 9; flags++) {
                    /* Linux goes on charging what was writable once. */
                    if (olds[a] == A + PG && lengths[m] == 1ul << 40)
                        continue;
                    char text[1024];
                    char *to = text + sprintf(text, "mremap(%lx, %lx, %lx, %lx, ...)", olds[a], lengths[l], lengths[m], flags);
                    for (size_t n = 0; n < COUNT(news); n++) {
                        if (n && !(flags & 6))
                            break;
                        if (is_dangerous(olds[a], lengths[l]) || (flags & 2 && is_dangerous(news[n], lengths[m])) || news[n] == END - PG)
                            continue;
                        /* Since 6.17 Linux moves several segments at once. */
                        if (flags & 2 && lengths[l] > PG)
                            continue;
                        build("wrn.ww");
                        long got = call(SYS_mremap, olds[a], lengths[l], lengths[m], flags, news[n], 0);
                        to += sprintf(to, " %s", place(got));
                        if (got > 0 && ((word)got < A || (word)got > A + 128 * PG))
                            munmap((void *)got, lengths[m]);
                    }
                    answer("%s", text);
                }
    }
    group("numbers", "mremap");
    /* Old lengths behind the end: what of the destination is still there when that has been found out. */
    static const word behind[] = {END - A, END, 1ul << 47, 1ul << 63, -A - PG, -A, -2 * PG, -PG}, shorter[] = {PG, 2 * PG, END};
    static const word places[] = {A - 2 * PG, A, A + PG, A + 2 * PG, A + 3 * PG, A + 4 * PG, TARGET};
    for (size_t l = 0; l < COUNT(behind); l++)
        for (size_t m = 0; m < COUNT(shorter); m++)
            for (size_t n = 0; n < COUNT(places); n++) {
                char text[1024];
                build("wwwrww");
                long got = call(SYS_mremap, A + PG, behind[l], shorter[m], 3, places[n], 0);
                char *to = text + sprintf(text, "mremap(A+1, %lx, %lx, 3, %s) %s", behind[l], shorter[m], place((long)places[n]), place(got));
                describe(A - 4 * PG, A + 128 * PG, to);
                answer("%s", text);
            }
    group("numbers", "mremap, from behind the end");
}

static void maps_of_every_kind(void) {
    static const word types[] = {0, 1, 2, 3, 4, 5, 8, 15};
    static const word extra[] = {0, 0x10, 0x20, 0x30, 0x40, 0x100, 0x120, 0x800, 0x1000, 0x2000, 0x4000, 0x8000, 0x10000, 0x20000,
                                 0x100000, 0x100020, 0x100030, 0x200000, 0x4000000, 0x400000, 0x400020, 0x1000020, 0x80000000, 0x80000020,
                                 1ul << 40, 1ul << 40 | 0x20};
    static const word protections[] = {0, 1, 2, 3, 4, 7, 8, 0x1000001, 0x40000000};
    int descriptors[8], count = 0, pipes[2];
    descriptors[count++] = -1;
    descriptors[count++] = file;
    descriptors[count++] = read_only;
    descriptors[count++] = open("/tmp/memcalls", O_WRONLY);
    descriptors[count++] = open("/tmp/memcalls", O_PATH);
    descriptors[count++] = open("/tmp", O_RDONLY);
    descriptors[count++] = pipe(pipes) ? -1 : pipes[0];
    descriptors[count++] = memfd_create("memcalls", MFD_ALLOW_SEALING);
    ftruncate(descriptors[7], 4 * PG);
    fcntl(descriptors[7], F_ADD_SEALS, F_SEAL_WRITE);
    for (size_t t = 0; t < COUNT(types); t++) {
        for (size_t x = 0; x < COUNT(extra); x++)
            for (size_t p = 0; p < COUNT(protections); p++) {
                char text[1024];
                char *to = text + sprintf(text, "mmap(prot %lx, flags %lx)", protections[p], types[t] | extra[x]);
                for (int d = 0; d < count; d++) {
                    /* Linux finds the pipe's file system not executable first. */
                    if (d == 6 && protections[p] & PROT_EXEC)
                        continue;
                    build("..ww..");
                    /* MAP_32BIT and MAP_HUGETLB answer by what else there is. */
                    word at = A + 4 * PG;
                    long got = call(SYS_mmap, at, PG, protections[p], types[t] | extra[x], (word)descriptors[d], 0);
                    to += sprintf(to, " %s", place(got));
                    if (got > 0 && ((word)got < A || (word)got > A + 128 * PG))
                        munmap((void *)got, PG);
                }
                answer("%s", text);
            }
    }
    group("numbers", "mmap, flags");
    static const word ats[] = {0, 1, PG, A, A + 1, A + 100, A + 2 * PG, A + 3 * PG + 5, END - PG, END, END + PG, 1ul << 63, -PG, -1ul};
    static const word lens[] = {0, 1, PG, 2 * PG + 1, 1ul << 40, 1ul << 46, END - PG, END, END + PG, 1ul << 47, 1ul << 63, -PG, -1ul};
    static const word offsets[] = {0, 1, PG, 1ul << 40, (1ul << 63) - PG, 1ul << 63, -PG, -1ul};
    static const word flags[] = {2, 1, 0x12, 0x100002, 0x11, 0x22, 0x21, 0x32, 0x100022, 0x31, 0x4022, 0x4012 | 0x20};
    for (size_t a = 0; a < COUNT(ats); a++)
        for (size_t f = 0; f < COUNT(flags); f++)
            for (size_t l = 0; l < COUNT(lens); l++) {
                char text[1024];
                char *to = text + sprintf(text, "mmap(%lx, %lx, flags %lx)", ats[a], lens[l], flags[f]);
                for (size_t o = 0; o < COUNT(offsets); o++) {
                    /* Linux takes the last 4095 addresses for errors. Which room there is for so much that it is nearly everything, and whether
                     * that is found out first, is the system's affair. */
                    if ((flags[f] & 0x100010 && ats[a] > -PG) || (lens[l] >= 1ul << 46 && offsets[o] >= 1ul << 40))
                        continue;
                    if (flags[f] & 0x10 && (is_dangerous(ats[a], lens[l]) || ats[a] == END - PG))
                        continue;
                    /* Terabytes that are not reserved: whether they fit depends on what is there. */
                    build("..ww..");
                    long got = call(SYS_mmap, ats[a], lens[l], flags[f] & 0x4000 ? 0 : PROT_READ, flags[f],
                                    flags[f] & 0x20 ? -1ul : (word)file, offsets[o]);
                    to += sprintf(to, " %s", place(got));
                    if (got > 0 && ((word)got < A || (word)got + lens[l] > A + 128 * PG))
                        munmap((void *)got, lens[l]);
                }
                answer("%s", text);
            }
    group("numbers", "mmap, places");
    static const word kinds[] = {0, 4, 8, 15, 0x20, 0x24, 0x2f, 0x121, 0x40, 0x60}, most[] = {PG, 1ul << 40, END - PG, END};
    for (size_t k = 0; k < COUNT(kinds); k++)
        for (size_t l = 0; l < COUNT(most); l++) {
            long got = call(SYS_mmap, 0, most[l], PROT_READ, kinds[k], (word)file, 0);
            answer("mmap(0, %lx, flags %lx) %s", most[l], kinds[k], place(got));
        }
    group("numbers", "mmap, no room for a wrong kind");
    for (int d = 3; d < count; d++)
        close(descriptors[d]);
    close(pipes[1]);
}

/* --- Scenes ----------------------------------------------------------------------------------------------------------------- */

static const char *const SCENES[] = {"wwwww", "uuuuu", "ww.ww", "wrnwr", "wWwrx", "wlwww", "llwww", "wwlll", "lollo", "oowoo", "SSSSS", "FFFFF",
                                     "fffff", "RRRRR", "FFEEE", "ffeee", "wwSSw", "nnnnn", "ggwww", ".....", "w....", "wfFSw", ".gg.g", "wNNNw"};
static const struct { word from, to; } RANGES[] = {{0, 5}, {1, 3}, {3, 6}, {2, 4}};

static void show(const char *scene, const char *what, word from, word to, long got) {
    char text[1024], there[512] = "";
    describe(A - 8 * PG, A + PAGES * PG, text);
    describe(TARGET, TARGET + PAGES * PG, there);
    answer("%s[%lu..%lu] %s: %s;%s%s%s", scene, from, to, what, got == 0 ? "0" : place(got), text, *there ? " and" : "", there);
    if (got > 0 && ((word)got < A || (word)got > A + 128 * PG)) {
        describe((word)got, (word)got + (to - from) * PG, text);
        answer("   elsewhere:%s", text);
        munmap((void *)got, PAGES * PG);
    }
}

struct Call {
    const char *group;
    long number;
    int shape; /* 0: address, length, flag; 1: mremap with lengths; 2: mmap; 3: mincore */
    word flags[32];
    int count;
};

static const struct Call CALLS[] = {
    {"munmap", SYS_munmap, 0, {0}, 1},
    {"mprotect", SYS_mprotect, 0, {0, 1, 2, 3, 5, 7, 0x1000003, 0x2000003, 11}, 9},
    {"madvise", SYS_madvise, 0, {0, 1, 3, 4, 9, 10, 11, 12, 14, 15, 18, 19, 20, 21, 22, 23, 24}, 17},
    {"msync", SYS_msync, 0, {0, 1, 2, 4, 6}, 5},
    {"mlock", SYS_mlock, 0, {0}, 1},
    {"mlock2", SYS_mlock2, 0, {1}, 1},
    {"munlock", SYS_munlock, 0, {0}, 1},
    {"mincore", SYS_mincore, 3, {0}, 1},
    {"mremap", SYS_mremap, 1, {0, 1, 3, 5, 7}, 5},
    {"mmap", SYS_mmap, 2, {0x32, 0x31, 0x22, 0x100022, 0x12, 0x11, 0x2032, 0x8032, 0x132, 0x100122, 0x12 | 0x8000}, 11},
};

static int is_one(const char *scene, word from, word to) {
    for (word i = from; i < to; i++)
        if (scene[i] != scene[from])
            return 0;
    return 1;
}

static void scenes(void) {
    for (size_t c = 0; c < COUNT(CALLS); c++) {
        const struct Call *call_ = &CALLS[c];
        for (size_t s = 0; s < COUNT(SCENES); s++)
            for (size_t r = 0; r < COUNT(RANGES); r++) {
                word from = RANGES[r].from, to = RANGES[r].to, at = A + from * PG, len = (to - from) * PG;
                for (int f = 0; f < call_->count; f++) {
                    word flags = call_->flags[f];
                    char what[64];
                    for (int size = 0; size < (call_->shape == 1 ? 4 : 1); size++) {
                        static const int more[] = {0, 2, -1, 9};
                        static unsigned char vector[8];
                        long got;
                        /* Since 6.17 Linux moves several segments at once. */
                        if (call_->shape == 1 && flags & 2 && !is_one(SCENES[s], from, to))
                            continue;
                        build(SCENES[s]);
                        sprintf(what, "%s %lx", call_->group, flags);
                        switch (call_->shape) {
                        case 1:
                            sprintf(what, "mremap %lx, %+d pages", flags, more[size]);
                            got = call(SYS_mremap, at, len, size == 3 ? 0 : len + (word)more[size] * PG, flags, TARGET, 0);
                            break;
                        case 2:
                            got = call(SYS_mmap, at, len, flags == 0x31 ? PROT_READ : RW, flags, flags & 0x20 ? -1ul : (word)file, flags & 0x20 ? 0 : from * PG);
                            break;
                        case 3:
                            memset(vector, 9, sizeof vector);
                            got = call(SYS_mincore, at, len, (word)vector, 0, 0, 0);
                            for (word i = 0; i < 8; i++)
                                sprintf(what + 8 + i, "%d", vector[i]);
                            break;
                        default:
                            got = call(call_->number, at, len, flags, 0, 0, 0);
                        }
                        show(SCENES[s], what, from, to, got);
                    }
                }
            }
        group("scenes", call_->group);
    }
}

/* --- Limits ----------------------------------------------------------------------------------------------------------------- */

/* A number of /proc/self/status, in pages. */
static word count(const char *name) {
    char text[8192];
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    char *line = strstr(text, name);
    return line ? strtoul(line + strlen(name) + 1, NULL, 10) / 4 : 0;
}

static void limit(int resource, word pages) {
    struct rlimit limit = {pages * PG, pages * PG};
    setrlimit(resource, &limit);
}

static word counted[4];

/* What the last call has changed: all pages, data, stack, locked. */
static const char *changed(void) {
    static const char *const NAMES[] = {"VmSize:", "VmData:", "VmStk:", "VmLck:"};
    static char text[96];
    char *to = text;
    for (int i = 0; i < 4; i++) {
        word now = count(NAMES[i]);
        to += sprintf(to, " %+ld", (long)(now - counted[i]));
        counted[i] = now;
    }
    return text;
}

#define CALL(what, ...) \
    do { \
        long got_ = (long)(__VA_ARGS__); \
        const char *at_ = place(got_ == -1 ? -errno : got_); \
        answer("%s: %s;%s", what, got_ ? at_ : "0", changed()); \
    } while (0)

/* The same calls under different limits: 16 pages more than there are of the one or the other, or none. */
static void add_and_take(void) {
    char *a = (char *)A;
    int any = ANON | MAP_FIXED_NOREPLACE;
    CALL("8 pages", mmap(a, 8 * PG, RW, any, -1, 0));
    CALL("12 more", mmap(a + 32 * PG, 12 * PG, RW, any, -1, 0));
    CALL("12 without rights", mmap(a + 32 * PG, 12 * PG, PROT_NONE, any, -1, 0));
    CALL("in the place of others", mmap(a, 8 * PG, RW, ANON | MAP_FIXED, -1, 0));
    CALL("half in the place of others", mmap(a + 4 * PG, 24 * PG, RW, ANON | MAP_FIXED, -1, 0));
    CALL("rights", mprotect(a + 32 * PG, 12 * PG, RW));
    CALL("fewer rights", mprotect(a, 8 * PG, PROT_READ));
    CALL("rights again", mprotect(a, 8 * PG, RW));
    CALL("grown", mremap(a, 8 * PG, 20 * PG, 0));
    CALL("grown a bit", mremap(a, 8 * PG, 10 * PG, 0));
    CALL("moved", mremap(a, 8 * PG, 8 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, a + 64 * PG));
    CALL("moved, and left", mremap(a + 64 * PG, 8 * PG, 8 * PG, 5, a + 128 * PG));
    CALL("moved back", mremap(a + 64 * PG, 8 * PG, 8 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, a));
    CALL("shared", mmap(a + 200 * PG, 14 * PG, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    char *tera = mremap(a + 200 * PG, 14 * PG, 1UL << 40, MREMAP_MAYMOVE);
    CALL("shared, grown to more than there is", tera == MAP_FAILED ? -1 : munmap(tera, 1UL << 40));
    CALL("a file", mmap(a + 300 * PG, 4 * PG, RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE, file, 0));
    CALL("a file, shared", mmap(a + 300 * PG, 4 * PG, RW, MAP_SHARED | MAP_FIXED_NOREPLACE, file, 0));
    CALL("gone", munmap(a, 1024 * PG));
    CALL("grows down", mmap(a + 1024 * PG, 2 * PG, RW, any | MAP_GROWSDOWN, -1, 0));
    int got = sigsetjmp(back, 1);
    if (!got)
        *(volatile char *)(a + 1020 * PG) = 1;
    CALL("grown down", got);
    if (!(got = sigsetjmp(back, 1)))
        *(volatile char *)(a + 1000 * PG) = 1;
    CALL("grown down far", got);
    CALL("all rights, from its start", mprotect(a + 1025 * PG, PG, RW | PROT_EXEC | PROT_GROWSDOWN));
    CALL("gone", munmap(a, 2048 * PG));
    CALL("locked", mmap(a, 4 * PG, RW, any | MAP_LOCKED, -1, 0));
    CALL("locked in part", munlock(a + PG, PG));
    CALL("locked when touched", syscall(SYS_mlock2, a + PG, PG, 1));
    CALL("locked, grown", mremap(a, PG, 2 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, a + 16 * PG));
    CALL("locked, replaced", mmap(a + 16 * PG, PG, RW, ANON | MAP_FIXED, -1, 0));
    CALL("locked in future", mlockall(MCL_FUTURE));
    CALL("4 pages", mmap(a + 64 * PG, 4 * PG, RW, any, -1, 0));
    CALL("as ever", munlockall());
    CALL("gone", munmap(a, 1024 * PG));
    word end = (word)call(SYS_brk, 0, 0, 0, 0, 0, 0), start = (end + PG - 1) & -PG;
    for (int pages = 0; pages < 40; pages += 13)
        CALL("heap", (call(SYS_brk, start + (word)pages * PG, 0, 0, 0, 0, 0) - (long)start) / (long)PG);
    CALL("heap", call(SYS_brk, end, 0, 0, 0, 0, 0) == (long)end ? 0 : -1);
}

/* Two threads take single pages until there are none: as many as the limit has room for. */
static long taken;

static void *take(void *at) {
    for (word i = 0; i < 64; i++)
        if (mmap((char *)at + 2 * i * PG, PG, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED)
            __atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void two_threads(int resource) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, mmap(NULL, 64 * PG, RW, ANON, -1, 0), 64 * PG);
    word before = count(resource == RLIMIT_AS ? "VmSize:" : "VmData:");
    limit(resource, before + 100);
    long other = pthread_create(&thread, &attributes, take, (void *)A);
    take((void *)(A + 1024 * PG));
    pthread_join(thread, NULL);
    answer("two threads: %ld, %ld pages", other, taken);
    answer("counted: %ld", (long)(count(resource == RLIMIT_AS ? "VmSize:" : "VmData:") - before));
}

static void limits(void) {
    static const struct { const char *name; int resource; const char *counts; } CASES[] = {
        {"no limit", -1, ""}, {"RLIMIT_AS", RLIMIT_AS, "VmSize:"}, {"RLIMIT_DATA", RLIMIT_DATA, "VmData:"}};
    clear();
    for (size_t c = 0; c < COUNT(CASES); c++)
        for (int threads = 0; threads < (c ? 2 : 1); threads++) {
            fflush(stdout);
            pid_t child = fork();
            if (child == 0) {
                changed();
                if (threads)
                    two_threads(CASES[c].resource);
                else {
                    if (CASES[c].resource >= 0)
                        limit(CASES[c].resource, count(CASES[c].counts) + 16);
                    add_and_take();
                }
                group("limits", CASES[c].name);
                exit(0);
            }
            waitpid(child, NULL, 0);
        }
}

/* --- What is locked is there ------------------------------------------------------------------------------------------------------ */

/* Which of so many pages are in memory. */
static const char *there(word at, int pages) {
    static char text[32];
    unsigned char vector[32] = {0};
    if (mincore((void *)at, (word)pages * PG, vector))
        return "?";
    for (int page = 0; page < pages; page++)
        text[page] = (char)('0' + (vector[page] & 1));
    text[pages] = 0;
    return text;
}

static const int MODES[] = {0, MCL_FUTURE, MCL_FUTURE | MCL_ONFAULT};

/* Everything that maps something, in turn, while all that is mapped is locked at once, or when it is touched, or not. */
static void locks(int mode, int segment) {
    char *a = (char *)A;
    int any = ANON | MAP_FIXED_NOREPLACE;
    clear();
    void *before = mmap(a + 64 * PG, 2 * PG, RW, any, -1, 0);
    void *shared = mmap(a + 72 * PG, 2 * PG, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    answer("mlockall(%d): %ld", mode, mode ? call(SYS_mlockall, (word)mode, 0, 0, 0, 0, 0) : 0);
#define THERE(what, at, pages, ...) \
    do { \
        long got_ = (long)(__VA_ARGS__); \
        const char *at_ = place(got_ == -1 ? -errno : got_); \
        answer("%s: %s %s", what, at_, there((word)(at), pages)); \
    } while (0)
    THERE("private", a, 4, mmap(a, 4 * PG, RW, any, -1, 0));
    THERE("for reading", a + 4 * PG, 2, mmap(a + 4 * PG, 2 * PG, PROT_READ, any, -1, 0));
    THERE("without rights", a + 8 * PG, 2, mmap(a + 8 * PG, 2 * PG, PROT_NONE, any, -1, 0));
    THERE("brought in", a + 12 * PG, 2, mmap(a + 12 * PG, 2 * PG, RW, any | MAP_POPULATE, -1, 0));
    THERE("shared, brought in", a + 16 * PG, 2, mmap(a + 16 * PG, 2 * PG, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0));
    THERE("shared", a + 20 * PG, 2, mmap(a + 20 * PG, 2 * PG, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    THERE("locked", a + 24 * PG, 2, mmap(a + 24 * PG, 2 * PG, RW, any | MAP_LOCKED, -1, 0));
    THERE("a segment of System V", a + 28 * PG, 2, shmat(segment, a + 28 * PG, 0));
    THERE("grown", before, 6, mremap(before, 2 * PG, 6 * PG, 0));
    THERE("moved and grown", a + 128 * PG, 8, mremap(mmap(a + 80 * PG, 2 * PG, RW, any, -1, 0), 2 * PG, 8 * PG, 3, a + 128 * PG));
    THERE("a second view", a + 96 * PG, 2, mremap(a + 20 * PG, 0, 2 * PG, 3, a + 96 * PG));
    THERE("a second view of what came before", a + 112 * PG, 2, mremap(shared, 0, 2 * PG, 3, a + 112 * PG));
    THERE("a middle that moves, and is left", a + 120 * PG, 2, mremap(a + 130 * PG, 2 * PG, 2 * PG, 7, a + 120 * PG));
    THERE("the end of the rest, grown", a + 135 * PG, 3, mremap(a + 135 * PG, PG, 3 * PG, 0));
    THERE("what has moved, grown", a + 120 * PG, 4, mremap(a + 120 * PG, 2 * PG, 4 * PG, 0));
    word end = (word)call(SYS_brk, 0, 0, 0, 0, 0, 0), start = (end + PG - 1) & -PG;
    THERE("heap", start, 3, call(SYS_brk, start + 3 * PG, 0, 0, 0, 0, 0) != (long)(start + 3 * PG));
    /* The answer is in what is asked about: a mapping at a time. */
    munlockall();
    clear();
    mmap(a, 4 * PG, PROT_READ, any, -1, 0);
    mprotect(a + PG, PG, RW);
    long got = call(SYS_mincore, A, 4 * PG, A + PG, 0, 0, 0);
    answer("an answer into its question: %ld %016lx", got, *(word *)(A + PG));
    /* And so many pages at once. */
    char *wide = mmap(NULL, 10000 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *vector = wide + 3000 * PG;
    got = call(SYS_mincore, (word)wide, 10000 * PG, (word)vector, 0, 0, 0);
    answer("an answer into a long question: %ld %d%d%d %d", got, vector[3000], vector[3001], vector[3002], vector[4096]);
    munmap(wide, 10000 * PG);
    group("locks", mode == 0 ? "none" : mode & 4 ? "when touched" : "at once");
}

/* --- Execve: arguments and stacks under a limit of the stack ------------------------------------------------------------------------ */

/* The new program: its arguments are whole, and its stack goes as far as it should. */
static int called(int count, char **arguments) {
    for (int i = 2; i < count; i++)
        for (char *c = arguments[i]; c == arguments[i] || c[-1]; c++)
            if (c - arguments[i] < 100000 ? *c != 'a' + i % 26 : *c)
                return 102;
    int signal = sigsetjmp(back, 1);
    word depth = 200;
    struct rlimit stack;
    getrlimit(RLIMIT_STACK, &stack);
    volatile char *here = (char *)((word)&stack & -PG);
    if (signal)
        return stack.rlim_cur < 1 << 20 ? 40 : 103;
    for (word i = 0; i < depth; i++)
        here[-(long)(i * PG)] = 1;
    return count;
}

static void exec_with(char *self, rlim_t stack, int strings) {
    pid_t child = fork();
    if (child == 0) {
        char *arguments[80] = {self, "called"}, *none[] = {NULL};
        struct rlimit limit = {stack, stack};
        for (int i = 2; i < strings + 2; i++) {
            arguments[i] = malloc(100001);
            memset(arguments[i], 'a' + i % 26, 100000);
            arguments[i][100000] = 0;
        }
        if (setrlimit(RLIMIT_STACK, &limit))
            _exit(100);
        execve(self, arguments, none);
        _exit(errno == E2BIG ? 101 : 104);
    }
    int status = 0;
    waitpid(child, &status, 0);
    answer("stack %lx, %d strings: %x", (word)stack, strings, (unsigned)status);
}

static void execs(char *self) {
    static const rlim_t stacks[] = {256 << 10, 1 << 20, 8 << 20, 32 << 20, 4ul << 30, RLIM_INFINITY};
    static const int strings[] = {0, 1, 2, 5, 20, 22, 62, 64};
    fflush(stdout);
    for (size_t s = 0; s < COUNT(stacks); s++)
        for (size_t n = 0; n < COUNT(strings); n++)
            exec_with(self, stacks[s], strings[n]);
    group("execve", "arguments and stacks");
}

int main(int argc, char **argv) {
    if (argc == 3)
        verbose = !strcmp(argv[2], "-v");
    static char stack[1 << 16];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternative, NULL);
    struct sigaction action = {.sa_handler = denied, .sa_flags = SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    if (argc > 1 && !strcmp(argv[1], "called"))
        return called(argc, argv);
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    file = open("/tmp/memcalls", O_RDWR | O_CREAT | O_TRUNC, 0600);
    read_only = open("/tmp/memcalls", O_RDONLY);
    if (file < 0 || read_only < 0 || ftruncate(file, 14 * PG))
        return 2;
    sum = 0xcbf29ce484222325;
    const char *what = argc > 1 ? argv[1] : "all";
    int all = !strcmp(what, "all");
    if (all || !strcmp(what, "numbers"))
        numbers(), remaps(), maps_of_every_kind();
    if (all || !strcmp(what, "scenes"))
        scenes();
    if (all || !strcmp(what, "limits"))
        limits();
    if (all || !strcmp(what, "locks"))
        for (size_t m = 0; m < COUNT(MODES); m++) {
            fflush(stdout);
            int segment = shmget(IPC_PRIVATE, 2 * PG, 0600);
            pid_t child = fork();
            if (child == 0) {
                locks(MODES[m], segment);
                exit(0);
            }
            waitpid(child, NULL, 0);
            shmctl(segment, IPC_RMID, NULL);
        }
    // What fits depends on the name by which this program was started, too: only where that is the same on both sides.
    if (!strcmp(what, "execve"))
        execs(argv[0]);
    clear();
    unlink("/tmp/memcalls");
    return 0;
}
