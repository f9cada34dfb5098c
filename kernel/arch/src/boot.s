# Entry points of the kernel: the boot CPU by PVH (32-bit, paging off), the others by INIT-SIPI (16-bit at AP_PAGE).
# Both end in 64-bit code on the boot tables, which map the first 4 GiB at 0, at PHYS_BASE and at KERNEL_BASE.

.section .note.Xen, "a", @note
.align 4
.long 4, 8, 18                  # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad pvh_start

.section .boot.data, "awx", @progbits
.align 4096
.global boot_pml4
boot_pml4:
    .quad boot_pdpt_low + 3
    .fill 255, 8, 0
    .quad boot_pdpt_low + 3
    .fill 254, 8, 0
    .quad boot_pdpt_high + 3
boot_pdpt_low:
    .quad boot_pd + 3, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .fill 508, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd + 3
    .quad 0
boot_pd:
    .set page, 0
    .rept 2048
    .quad page + 0x83
    .set page, page + 0x200000
    .endr
boot_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    # 0x08: 32-bit code
    .quad 0x00cf93000000ffff    # 0x10: data
    .quad 0x00af9b000000ffff    # 0x18: 64-bit code
boot_gdtr:
    .word . - boot_gdt - 1
    .long boot_gdt
.align 8
.global boot_tsc
boot_tsc:
    .quad 0
.global ap_next
ap_next:
    .long 1                     # next CPU number
.global ap_efer
ap_efer:
    .long 0
.align 8
.global ap_top
ap_top:
    .quad 0                     # the kernel's top-level table
.global ap_limit
ap_limit:
    .long 0                     # CPUs that have a stack

.section .boot.text, "awx", @progbits
.code32
.global pvh_start
pvh_start:
    cli
    cld
    movl %ebx, %esi
    rdtsc
    movl %eax, boot_tsc
    movl %edx, boot_tsc + 4
    lgdtl boot_gdtr
    ljmpl $8, $1f
1:  movl $bsp_long, %edi
    jmp enter_long

ap_32:
    movl $ap_long, %edi

# Turns on long mode on the boot tables and goes on at %edi. There is no stack yet.
enter_long:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr4, %eax
    orl $0x20, %eax             # PAE
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax            # LME
    wrmsr
    movl $0x80010033, %eax      # PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    ljmpl $0x18, $1f
.code64
1:  jmpq *%rdi

bsp_long:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq $boot_stack + BOOT_STACK_SIZE, %rsp
    xorl %ebp, %ebp
    movl %esi, %edi
    movq $kernel_entry, %rax
    call *%rax
    ud2

ap_long:
    movl $1, %edi
    lock xaddl %edi, ap_next
    cmpl %edi, ap_limit
    jbe 2f
    movl $0xc0000080, %ecx
    rdmsr
    orl ap_efer, %eax           # NX, which the kernel's tables may need
    wrmsr
    movq ap_top, %rsi
    movq $ap_high, %rax
    jmpq *%rax
2:  cli                         # one CPU more than there are stacks for: it stays here
    hlt
    jmp 2b

# Copied to AP_PAGE: from real mode to ap_32.
.global ap_trampoline, ap_trampoline_end
.code16
ap_trampoline:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl (ap_gdtr - ap_trampoline + AP_PAGE)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $8, $ap_32
ap_gdtr:
    .word 31
    .long boot_gdt
ap_trampoline_end:
.code64

# On the kernel's tables, where the entry code above is not mapped any more.
.section .text
ap_high:
    movq %rsi, %cr3
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq $AP_STACKS, %rax
    movq (%rax, %rdi, 8), %rsp
    xorl %ebp, %ebp
    call ap_entry
    ud2

.section .bss.boot_stack, "aw", @nobits
.align 4096
boot_stack:
    .skip BOOT_STACK_SIZE
.text
