/* What a program must not do. `badinput CASE` does it; the system ends the program the way Linux does, and goes on.
 * `badinput list` names the cases, one a line, with the status that a shell sees on Linux.
 * `badinput pointers` gives wild pointers to system calls and prints each answer: Linux is the oracle.
 * `badinput numbers` makes every system call with wild arguments; only on Quire, since Linux obeys some of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { SEGV = 139, FPE = 136, ILL = 132, TRAP = 133 };

static volatile int zero;

static void *page(int rights) {
    return mmap(NULL, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void jump(uintptr_t to) {
    ((void (*)(void))to)();
}

/* Not a tail call, and too large for the compiler to see through. */
static int deep(volatile char *above) {
    volatile char here[4096];
    here[0] = above ? above[0] : 0;
    if (zero)
        return 0;
    return deep(here) + here[0];
}

static void read_null(void) { (void)*(volatile char *)(uintptr_t)zero; }
static void write_null(void) { *(volatile char *)(uintptr_t)zero = 1; }
static void read_kernel(void) { (void)*(volatile char *)0xffffffff80000000; }
static void read_linear(void) { (void)*(volatile char *)0xffff800000000000; }
static void write_kernel(void) { *(volatile char *)0xffff800000100000 = 1; }
static void read_noncanonical(void) { (void)*(volatile char *)0x0123456789abcdef; }
static void read_last(void) { (void)*(volatile uint64_t *)0x7ffffffffffc; }
static void jump_null(void) { jump((uintptr_t)zero); }
static void jump_kernel(void) { jump(0xffffffff80100000); }
static void jump_noncanonical(void) { jump(0x8000000000000000); }
static void jump_data(void) { jump((uintptr_t)page(PROT_READ | PROT_WRITE)); }
static void write_text(void) { *(volatile char *)(uintptr_t)read_null = 1; }
static void write_read_only(void) { *(volatile char *)page(PROT_READ) = 1; }
static void read_none(void) { (void)*(volatile char *)page(PROT_NONE); }
static void stack_overflow(void) { exit(deep(NULL)); }
static void below_stack(void) { *(volatile char *)((uintptr_t)__builtin_frame_address(0) - (1ul << 30)) = 1; }
static void stack_lost(void) { __asm__ volatile("xor %%esp, %%esp; push %%rax" ::: "memory"); }
static void stack_kernel(void) { __asm__ volatile("mov $-4096, %%rsp; push %%rax" ::: "memory"); }
static void divide(void) { __asm__ volatile("xor %%edx, %%edx; idivl %1" : : "a"(1), "r"(zero) : "edx"); }
static void divide_overflow(void) { __asm__ volatile("cltd; idivl %1" : : "a"(INT32_MIN), "r"(-1 + zero) : "edx"); }
static void undefined(void) { __asm__ volatile("ud2"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void halt(void) { __asm__ volatile("hlt"); }
static void interrupts_off(void) { __asm__ volatile("cli"); }
static void port_in(void) { __asm__ volatile("inb $0x60, %%al" ::: "rax"); }
static void port_exit(void) { __asm__ volatile("outl %0, $0xf4" ::"a"(0)); }
static void write_cr3(void) { __asm__ volatile("mov %0, %%cr3" ::"r"(0ul)); }
static void read_cr0(void) { __asm__ volatile("mov %%cr0, %%rax" ::: "rax"); }
static void read_msr(void) { __asm__ volatile("rdmsr" ::"c"(0xc0000080) : "rax", "rdx"); }
static void load_gdt(void) { __asm__ volatile("lgdt (%0)" ::"r"(&zero) : "memory"); }
static void swap_gs(void) { __asm__ volatile("swapgs"); }
static void sys_return(void) { __asm__ volatile("sysretq"); }
static void page_vector(void) { __asm__ volatile("int $14"); }
static void timer_vector(void) { __asm__ volatile("int $0x20"); }
static void last_vector(void) { __asm__ volatile("int $255"); }
static void unaligned_vector(void) {
    __asm__ volatile("movaps (%0), %%xmm0" ::"r"((char *)page(PROT_READ | PROT_WRITE) + 1) : "xmm0");
}
/* A return to the kernel's segments, and descriptors of a local table: there is none, though there is memory at address 0, where
 * the table is after a reset. The stack and the page are there, so that only the rights are missing. */
static void return_to_kernel(void) {
    __asm__ volatile("push $0x10; push %%rsp; push $2; push $8; push $0; iretq" ::: "memory");
}
static void far_return_to_kernel(void) { __asm__ volatile("push $8; push $0; lretq" ::: "memory"); }
static void local_table(void) {
    uint64_t *table = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    for (int i = 0; table != MAP_FAILED && i < 64; i++) /* Not through a null pointer, which the compiler would not believe. */
        __asm__ volatile("movq %1, (%0)" ::"r"(table + i), "r"(0x00cff3000000ffffull) : "memory");
}
static void local_data(void) { local_table(); __asm__ volatile("mov %0, %%fs" ::"r"(0xf)); }
static void local_stack(void) { local_table(); __asm__ volatile("mov %0, %%ss" ::"r"(0xf)); }
static void local_code(void) { local_table(); __asm__ volatile("push $0xf; push $0; lretq" ::: "memory"); }
static void segment_register(void) { __asm__ volatile("mov %0, %%ss" ::"r"(0x1234)); }
static void single_step(void) { __asm__ volatile("pushf; orl $0x100, (%%rsp); popf; nop; nop" ::: "memory", "cc"); }
static void align_then_fault(void) {
    __asm__ volatile("pushf; orl $0x40000, (%%rsp); popf" ::: "memory", "cc");
    *(volatile char *)(uintptr_t)zero = 1;
}
static void direction_then_fault(void) {
    __asm__ volatile("std" ::: "cc");
    *(volatile char *)(uintptr_t)zero = 1;
}
/* SYSCALL as the last instruction below the hole in the address space: the return address is not canonical. */
static void syscall_at_the_edge(void) {
    char *at = mmap((void *)0x7fffffffe000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (at == MAP_FAILED)
        *(volatile char *)(uintptr_t)zero = 1;
    memcpy(at + 4094, "\x0f\x05", 2);
    __asm__ volatile("mov $39, %%eax; jmp *%0" ::"r"(at + 4094) : "rax", "rcx", "r11");
}

/* What a signal frame and a handler's address may be: the program's own fault, never the kernel's. */
typedef void handler_t(int, siginfo_t *, void *);

static const uintptr_t noncanonical = 0x900000000000, of_kernel = 0xffffffff80100000;

static void handle_on(int signal, uintptr_t handler, int flags) {
    struct sigaction action = {.sa_sigaction = (handler_t *)handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, NULL);
}

static void leave(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    _exit(7);
}
static void handler_noncanonical(void) { handle_on(SIGUSR1, noncanonical, 0), raise(SIGUSR1); }
static void handler_kernel(void) { handle_on(SIGUSR1, of_kernel, 0), raise(SIGUSR1); }
static void handler_noncanonical_caught(void) {
    handle_on(SIGSEGV, (uintptr_t)leave, 0), handler_noncanonical();
}
static void handler_of_segv_noncanonical(void) { handle_on(SIGSEGV, noncanonical, 0), raise(SIGSEGV); }
static void handlers_all_the_way_down(void) {
    handle_on(SIGSEGV, noncanonical, SA_NODEFER), raise(SIGSEGV);
}

static void (*change)(ucontext_t *);
static void changed(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    change(context);
}
static void return_with(void (*what)(ucontext_t *)) {
    change = what;
    handle_on(SIGUSR1, (uintptr_t)changed, 0);
    raise(SIGUSR1);
    _exit(0);
}
static void rip_noncanonical(ucontext_t *c) { c->uc_mcontext.gregs[REG_RIP] = (long long)noncanonical; }
static void rip_kernel(ucontext_t *c) { c->uc_mcontext.gregs[REG_RIP] = (long long)of_kernel; }
static void rip_edge(ucontext_t *c) { c->uc_mcontext.gregs[REG_RIP] = 0x7fffffffffff; }
static void wild_selectors(ucontext_t *c) { c->uc_mcontext.gregs[REG_CSGSFS] = 0x1234123412341234; }
static void kernel_selector(ucontext_t *c) { c->uc_mcontext.gregs[REG_CSGSFS] &= ~0xffffll, c->uc_mcontext.gregs[REG_CSGSFS] |= 0x8; }
static void all_flags(ucontext_t *c) { c->uc_mcontext.gregs[REG_EFL] = ~0x100ll; }
static void no_fpu(ucontext_t *c) { c->uc_mcontext.fpregs = NULL; }
static void wild_fpu(ucontext_t *c) { c->uc_mcontext.fpregs = (void *)noncanonical; }
static void unaligned_fpu(ucontext_t *c) { c->uc_mcontext.fpregs = (void *)((char *)c->uc_mcontext.fpregs + 8); }
static void torn_fpu(ucontext_t *c) { memset(c->uc_mcontext.fpregs, 0xff, 464); }
static void torn_header(ucontext_t *c) { memset((char *)c->uc_mcontext.fpregs + 512, 0xff, 64); }
#define RETURN(what) static void return_##what(void) { return_with(what); }
RETURN(rip_noncanonical)
RETURN(rip_kernel)
RETURN(rip_edge)
RETURN(kernel_selector)
RETURN(all_flags)
RETURN(no_fpu)
RETURN(wild_fpu)
RETURN(wild_selectors)
RETURN(unaligned_fpu)
RETURN(torn_fpu)
RETURN(torn_header)

static void return_without_frame(void) {
    __asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall" ::"r"((uintptr_t)page(PROT_NONE) + 4096));
}
static void return_without_frame_caught(void) {
    static char other[65536];
    stack_t stack = {.ss_sp = other, .ss_size = sizeof other};
    sigaltstack(&stack, NULL);
    handle_on(SIGSEGV, (uintptr_t)leave, SA_ONSTACK);
    return_without_frame();
}
static void wild_stack(void) {
    stack_t stack = {.ss_sp = (void *)of_kernel, .ss_size = SIZE_MAX / 2};
    sigaltstack(&stack, NULL);
    handle_on(SIGUSR1, (uintptr_t)leave, SA_ONSTACK);
    raise(SIGUSR1);
}
/* The frame of a signal does not fit: a SIGSEGV is what comes, and its handler may have room. */
static void frame_does_not_fit(void) {
    stack_t stack = {.ss_sp = page(PROT_READ), .ss_size = 4096};
    sigaltstack(&stack, NULL);
    handle_on(SIGSEGV, (uintptr_t)leave, 0);
    handle_on(SIGUSR1, (uintptr_t)leave, SA_ONSTACK);
    raise(SIGUSR1);
}
static void blocked_fault(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    handle_on(SIGSEGV, (uintptr_t)leave, 0);
    read_null();
}
static void ignored_fault(void) {
    handle_on(SIGSEGV, (uintptr_t)SIG_IGN, 0);
    jump(noncanonical);
}

/* Another thread ignores the signal in the moment in which this one's fault raises it: the fault is handled or kills. */
static sigjmp_buf back;
static void again(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    siglongjmp(back, 1);
}
static void *flip(void *unused) {
    for (;;) {
        handle_on(SIGSEGV, (uintptr_t)SIG_IGN, 0);
        handle_on(SIGSEGV, (uintptr_t)again, SA_NODEFER);
        for (volatile int i = 0; i < 20; i++)
            ;
    }
    return unused;
}
static void ignored_meanwhile(void) {
    int ends[2] = {0, 0};
    for (int child = 0; child < 60; child++) {
        pid_t pid = fork();
        if (pid == 0) {
            pthread_t threads[2];
            handle_on(SIGSEGV, (uintptr_t)again, SA_NODEFER);
            for (int i = 0; i < 2; i++)
                pthread_create(&threads[i], NULL, flip, NULL);
            for (volatile int i = 0; i < 200; i++)
                if (!sigsetjmp(back, 0))
                    jump(i % 2 ? noncanonical : of_kernel);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        ends[status == 0 || status == SIGSEGV]++;
    }
    _exit(ends[0] ? 1 : 7);
}

static const struct {
    const char *name;
    void (*act)(void);
    int status;
} cases[] = {
#define CASE(act, status) {#act, act, status}
    CASE(read_null, SEGV),        CASE(write_null, SEGV),        CASE(read_kernel, SEGV),
    CASE(read_linear, SEGV),      CASE(write_kernel, SEGV),      CASE(read_noncanonical, SEGV),
    CASE(read_last, SEGV),        CASE(jump_null, SEGV),         CASE(jump_kernel, SEGV),
    CASE(jump_noncanonical, SEGV), CASE(jump_data, SEGV),        CASE(write_text, SEGV),
    CASE(write_read_only, SEGV),  CASE(read_none, SEGV),         CASE(stack_overflow, SEGV),
    CASE(below_stack, SEGV),      CASE(stack_lost, SEGV),        CASE(stack_kernel, SEGV),
    CASE(divide, FPE),            CASE(divide_overflow, FPE),    CASE(undefined, ILL),
    CASE(breakpoint, TRAP),       CASE(halt, SEGV),              CASE(interrupts_off, SEGV),
    CASE(port_in, SEGV),          CASE(port_exit, SEGV),         CASE(write_cr3, SEGV),
    CASE(read_cr0, SEGV),         CASE(read_msr, SEGV),          CASE(load_gdt, SEGV),
    CASE(swap_gs, SEGV),          CASE(sys_return, SEGV),        CASE(page_vector, SEGV),
    CASE(timer_vector, SEGV),     CASE(last_vector, SEGV),       CASE(unaligned_vector, SEGV),
    CASE(return_to_kernel, SEGV), CASE(far_return_to_kernel, SEGV), CASE(local_data, SEGV),
    CASE(local_stack, SEGV),      CASE(local_code, SEGV),
    CASE(segment_register, SEGV), CASE(single_step, TRAP),       CASE(align_then_fault, SEGV),
    CASE(direction_then_fault, SEGV), CASE(syscall_at_the_edge, SEGV),
    CASE(handler_noncanonical, SEGV), CASE(handler_kernel, SEGV), CASE(handler_noncanonical_caught, 7),
    CASE(handler_of_segv_noncanonical, SEGV), CASE(handlers_all_the_way_down, SEGV),
    CASE(return_rip_noncanonical, SEGV), CASE(return_rip_kernel, SEGV), CASE(return_rip_edge, SEGV),
    CASE(return_kernel_selector, SEGV), CASE(return_wild_selectors, SEGV),
    CASE(return_all_flags, 0),
    CASE(return_no_fpu, 0),       CASE(return_wild_fpu, SEGV),   CASE(return_without_frame, SEGV),
    CASE(return_without_frame_caught, 7), CASE(wild_stack, SEGV), CASE(frame_does_not_fit, 7),
    CASE(blocked_fault, SEGV),    CASE(ignored_fault, SEGV),     CASE(ignored_meanwhile, 7),
    CASE(return_unaligned_fpu, SEGV), CASE(return_torn_fpu, SEGV), CASE(return_torn_header, SEGV),
};

/* Wild pointers: nowhere, the kernel's, across the end of a mapping, without the right. */
struct wild {
    const char *name;
    uintptr_t at;
};

static int try(const char *call, const struct wild *wild, long number, long a, long b, long c, long d, long e) {
    errno = 0;
    long result = syscall(number, a, b, c, d, e, 0);
    printf("%s %s: %s %d\n", call, wild->name, result < 0 ? "error" : "done", result < 0 ? errno : 0);
    return 0;
}

static void pointers(void) {
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(two + 4096, 4096);
    memset(two, 'x', 4096);
    struct wild wilds[] = {
        {"null", 0},
        {"one", 1},
        {"kernel", 0xffffffff80000000},
        {"linear", 0xffff800000000000},
        {"hole", 0x0000800000000000},
        {"limit", 0x00007fffffffffff},
        {"noncanonical", 0x1234567812345678},
        {"top", UINTPTR_MAX},
        {"edge", (uintptr_t)two + 4095},
        {"none", (uintptr_t)page(PROT_NONE)},
    };
    struct wild read_only = {"read-only", (uintptr_t)page(PROT_READ)};
    int ends[2], null = open("/dev/null", O_WRONLY), dev_zero = open("/dev/zero", O_RDONLY);
    if (pipe(ends) != 0 || null < 0 || dev_zero < 0)
        exit(1);
    for (unsigned i = 0; i <= sizeof wilds / sizeof *wilds; i++) {
        const struct wild *w = i < sizeof wilds / sizeof *wilds ? &wilds[i] : &read_only;
        int writable_wanted = w == &read_only;
        long p = (long)w->at;
        if (!writable_wanted) {
            try("write", w, SYS_write, ends[1], p, 16, 0, 0);
            try("writev", w, SYS_writev, ends[1], p, 2, 0, 0);
            try("openat", w, SYS_openat, AT_FDCWD, p, O_RDONLY, 0, 0);
            try("access", w, SYS_access, p, 0, 0, 0, 0);
            try("nanosleep", w, SYS_nanosleep, p, 0, 0, 0, 0);
            try("futex", w, SYS_futex, p & ~3l, 128, 0, 0, 0);
            try("execve", w, SYS_execve, p, 0, 0, 0, 0);
            try("setrlimit", w, SYS_setrlimit, RLIMIT_CORE, p, 0, 0, 0);
            try("memfd_create", w, SYS_memfd_create, p, 0, 0, 0, 0);
        }
        try("read", w, SYS_read, dev_zero, p, 16, 0, 0);
        try("readv", w, SYS_readv, dev_zero, p, 2, 0, 0);
        try("pipe2", w, SYS_pipe2, p, 0, 0, 0, 0);
        try("fstat", w, SYS_fstat, null, p, 0, 0, 0);
        try("uname", w, SYS_uname, p, 0, 0, 0, 0);
        try("sysinfo", w, SYS_sysinfo, p, 0, 0, 0, 0);
        try("getrandom", w, SYS_getrandom, p, 16, 0, 0, 0);
        try("clock_gettime", w, SYS_clock_gettime, 1, p, 0, 0, 0);
        try("getrlimit", w, SYS_getrlimit, RLIMIT_STACK, p, 0, 0, 0);
        try("getrusage", w, SYS_getrusage, RUSAGE_SELF, p, 0, 0, 0);
        try("poll", w, SYS_poll, p, 1, 0, 0, 0);
        try("sched_getaffinity", w, SYS_sched_getaffinity, 0, 128, p, 0, 0);
        if (p != 0) {
            try("rt_sigaction old", w, SYS_rt_sigaction, 10, 0, p, 8, 0);
            try("rt_sigprocmask old", w, SYS_rt_sigprocmask, 0, 0, p, 8, 0);
            try("sigaltstack old", w, SYS_sigaltstack, 0, p, 0, 0, 0);
            try("times", w, SYS_times, p, 0, 0, 0, 0);
        }
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            _exit(3);
        try("wait4", w, SYS_wait4, child, p, 0, 0, 0);
        waitpid(child, NULL, 0);
        /* Lengths that leave the address space. */
        try("write far", w, SYS_write, ends[1], p, INT64_MAX, 0, 0);
        try("munmap far", w, SYS_munmap, 0x1000, p | INT64_MIN, 0, 0, 0);
        /* Something may have gone through: make room again. */
        char rest[65536];
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        while (read(ends[0], rest, sizeof rest) > 0)
            ;
    }
}

static int harmless(long number) {
    /* What would end, stop or replace this process is left out. */
    static const long not[] = {
        SYS_exit,     SYS_exit_group, SYS_fork,  SYS_vfork,      SYS_clone,        SYS_clone3,
        SYS_kill,     SYS_tkill,      SYS_tgkill, SYS_pause,     SYS_rt_sigreturn, SYS_rt_sigsuspend,
        SYS_reboot,   SYS_munmap,     SYS_brk,   SYS_mprotect,   SYS_mremap,       SYS_arch_prctl,
        SYS_close,    SYS_dup2,       SYS_dup3,  SYS_close_range, SYS_madvise,     SYS_rt_sigtimedwait,
        SYS_setrlimit, SYS_prlimit64, SYS_ptrace, SYS_alarm,     SYS_setitimer,    SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo, SYS_wait4, SYS_waitid,
        /* Without descriptors and without a time-out, these sleep for ever. */
        SYS_poll, SYS_ppoll, SYS_select, SYS_pselect6, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2,
    };
    for (unsigned i = 0; i < sizeof not / sizeof *not; i++)
        if (not[i] == number)
            return 0;
    return 1;
}

static int numbers(void) {
    struct utsname name;
    if (uname(&name) != 0 || !strstr(name.release, "quire")) {
        fprintf(stderr, "badinput: Linux would obey some of these calls; not here\n");
        return 2;
    }
    /* The first is a page that is not there yet: what copies to it or from it faults, and goes on. */
    long values[] = {
        (long)page(PROT_READ | PROT_WRITE), 0, 1, -1, 3, 4096, 0xffff, INT64_MAX, INT64_MIN, 0x7fffffff, 0x123456789abcdef0, (long)0xffffffff80000000,
        (long)0xffff800000000000, 0x7ffffffff000, 0x800000000000,
    };
    enum { COUNT = sizeof values / sizeof *values };
    for (long number = 0; number < 600; number++) {
        if (!harmless(number))
            continue;
        pid_t child = fork();
        if (child == 0) {
            struct rlimit none = {0, 0};
            setrlimit(RLIMIT_CORE, &none);
            close(0);
            madvise((void *)values[0], 4096, MADV_DONTNEED);
            for (int i = 0; i < COUNT; i++)
                for (int j = 0; j < COUNT; j++) {
                    if (i == 0 && number == SYS_futex) /* Would sleep: there is a word of zero. */
                        continue;
                    syscall(number, values[i], values[j], values[(i + j) % COUNT], values[(i * 3 + j) % COUNT],
                            values[(i + 5 * j) % COUNT], values[(7 * i + j) % COUNT]);
                }
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status))
            printf("call %ld: signal %d\n", number, WTERMSIG(status));
    }
    for (int i = 0; i < COUNT; i++)
        syscall(values[i], -1, 2, 3, 4, 5, 6); /* Some of these are calls, too, and must not close what is printed to. */
    puts("badinput: still here");
    return 0;
}

int main(int argc, char **argv) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
            printf("%s %d\n", cases[i].name, cases[i].status);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "pointers") == 0) {
        pointers();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "numbers") == 0)
        return numbers();
    for (unsigned i = 0; argc == 2 && i < sizeof cases / sizeof *cases; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].act();
            printf("badinput: %s went through\n", argv[1]);
            return 0;
        }
    fprintf(stderr, "usage: badinput CASE | list | pointers | numbers\n");
    return 2;
}
