use std::fs;

pub struct Account<'a> {
    log: &'a [u8],
}

impl Account<'_> {
    pub fn take(&self, n: u8) -> Option<u8> {
        for x in self.log {
            if *x > n {
                return Some(*x);
            }
        }
        let first = self.log[0] + check(n);
        match first {
            0 => None,
            _ => fs::read("log").ok().map(|bytes| bytes[0]),
        }
    }
}
