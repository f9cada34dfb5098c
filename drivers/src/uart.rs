//! The log's way out: a 16550 UART at port I/O speed.

use uart_16550::SerialPort;

/// The first serial port of a PC.
pub struct Uart(SerialPort);

impl Uart {
    /// The port at 0x3f8, not yet initialised.
    ///
    /// # Safety
    /// Nobody else drives the port.
    pub const unsafe fn com1() -> Uart {
        // SAFETY: 0x3f8 is the architectural address, and the caller gives it to us alone.
        Uart(unsafe { SerialPort::new(0x3f8) })
    }

    /// Sets speed, format and FIFOs.
    pub fn init(&mut self) {
        self.0.init();
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0.send_raw(b);
        }
    }
}

impl core::fmt::Write for Uart {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.write(s.as_bytes());
        Ok(())
    }
}
