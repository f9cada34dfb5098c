//! The local APIC of a CPU (xAPIC or x2APIC, whichever the CPU offers), and the old PIC.

use x2apic::lapic::{LocalApic, LocalApicBuilder, TimerDivide, TimerMode};

/// One CPU's local APIC, and where an xAPIC's registers keep an identity: in their top byte. The crate hands that byte's
/// whole word in and out.
pub struct Apic(LocalApic, u32);

/// The vectors that a local APIC raises by itself.
#[derive(Clone, Copy, Debug)]
pub struct Vectors {
    /// Timer.
    pub timer: u8,
    /// Error.
    pub error: u8,
    /// Spurious; its low four bits should be ones.
    pub spurious: u8,
}

impl Apic {
    /// Enables the local APIC of the CPU that runs this, with a stopped one-shot timer.
    ///
    /// # Safety
    /// `registers` maps the APIC's registers, uncached; interrupts are off; the vectors have handlers.
    pub unsafe fn enable(registers: usize, vectors: Vectors) -> Result<Apic, &'static str> {
        let mut apic = LocalApicBuilder::new()
            .timer_vector(vectors.timer as usize)
            .error_vector(vectors.error as usize)
            .spurious_vector(vectors.spurious as usize)
            .timer_mode(TimerMode::OneShot)
            .timer_divide(TimerDivide::Div1)
            .timer_initial(0)
            .set_xapic_base(registers as u64)
            .build()?;
        // SAFETY: promised by the caller.
        unsafe {
            apic.enable();
            accept_nmi(registers);
        }
        Ok(Apic(apic, if has_x2apic() { 0 } else { 24 }))
    }

    /// The APIC's identity, as interrupts are addressed to it.
    pub fn id(&self) -> u32 {
        // SAFETY: reads a register of an enabled APIC.
        let id = unsafe { self.0.id() };
        id >> self.1
    }

    /// Ends the interrupt being served.
    #[inline]
    pub fn end_of_interrupt(&mut self) {
        // SAFETY: writes a register of an enabled APIC.
        unsafe { self.0.end_of_interrupt() };
    }

    /// Starts the one-shot timer with a number of its ticks; 0 stops it.
    #[inline]
    pub fn set_timer(&mut self, ticks: u32) {
        // SAFETY: writes a register of an enabled APIC.
        unsafe { self.0.set_timer_initial(ticks) };
    }

    /// What is left of the timer's ticks.
    pub fn timer_left(&self) -> u32 {
        // SAFETY: reads a register of an enabled APIC.
        unsafe { self.0.timer_current() }
    }

    /// Sends a vector to another CPU.
    #[inline]
    pub fn send(&mut self, apic_id: u32, vector: u8) {
        // SAFETY: writes a register of an enabled APIC; the vector has a handler.
        unsafe {
            self.settle();
            self.0.send_ipi(vector, apic_id << self.1)
        };
    }

    /// Sends a non-maskable interrupt to another CPU.
    pub fn send_nmi(&mut self, apic_id: u32) {
        // SAFETY: as `send`.
        unsafe {
            self.settle();
            self.0.send_nmi(apic_id << self.1)
        };
    }

    /// Resets another CPU: it waits for [`Apic::send_start`].
    pub fn send_init(&mut self, apic_id: u32) {
        // SAFETY: as `send`; the caller wants that CPU to start afresh.
        unsafe {
            self.settle();
            self.0.send_init_ipi(apic_id << self.1)
        };
    }

    /// Starts a reset CPU in real mode at `page` times 4096.
    pub fn send_start(&mut self, apic_id: u32, page: u8) {
        // SAFETY: as `send`; the caller has put code there.
        unsafe {
            self.settle();
            self.0.send_sipi(page, apic_id << self.1)
        };
    }

    /// Waits until the previous message has left: an xAPIC has room for one.
    unsafe fn settle(&mut self) {
        // SAFETY: reads a register of an enabled APIC.
        while unsafe { self.0.get_ipi_delivery_status() } {
            core::hint::spin_loop();
        }
    }
}

/// Lets the machine's own non-maskable interrupt in (a button on a real one): it comes by the pin LINT1.
///
/// # Safety
/// `registers` maps the registers of this CPU's enabled APIC; the interrupt has a handler.
unsafe fn accept_nmi(registers: usize) {
    const NMI: u32 = 4 << 8;
    // SAFETY: the register of the pin, as an MSR of an x2APIC and in memory of an xAPIC.
    unsafe {
        if has_x2apic() {
            x86::msr::wrmsr(0x836, NMI.into());
        } else {
            ((registers + 0x360) as *mut u32).write_volatile(NMI);
        }
    }
}

/// Whether the CPU has an x2APIC; then it is used.
fn has_x2apic() -> bool {
    x86::cpuid::CpuId::new().get_feature_info().is_some_and(|f| f.has_x2apic())
}

/// Physical address of this CPU's registers.
pub fn registers() -> u64 {
    // SAFETY: the MSR exists on every CPU with a local APIC.
    unsafe { x2apic::lapic::xapic_base() }
}

/// Masks both PICs: nobody uses them, and a stray interrupt of theirs must not look like an exception.
///
/// # Safety
/// Called once at boot with interrupts off.
pub unsafe fn silence_pic() {
    use x86::io::outb;
    // SAFETY: the ports of the two PICs: initialise with vectors 0x20 and 0x28, then mask all.
    unsafe {
        for (port, value) in [
            (0x20, 0x11),
            (0xa0, 0x11),
            (0x21, 0x20),
            (0xa1, 0x28),
            (0x21, 4),
            (0xa1, 2),
            (0x21, 1),
            (0xa1, 1),
            (0x21, 0xff),
            (0xa1, 0xff),
        ] {
            outb(port, value);
        }
    }
}
