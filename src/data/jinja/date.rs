//! The day that `strftime_now` writes.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day, written as `2026-11-30`. Its time is midnight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Date {
    year: i32,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Date {
    /// The day now, in UTC.
    pub fn today() -> Date {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut days = (seconds / 86_400) as u32;
        let mut date = Date { year: 1970, month: 1, day: 1 };
        while days >= date.days_of_year() {
            days -= date.days_of_year();
            date.year += 1;
        }
        while days >= date.days_of_month() {
            days -= date.days_of_month();
            date.month += 1;
        }
        date.day += days;
        date
    }

    fn leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    fn days_of_year(self) -> u32 {
        365 + u32::from(self.leap())
    }

    fn days_of_month(self) -> u32 {
        match self.month {
            2 => 28 + u32::from(self.leap()),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Days of the year before this one.
    fn elapsed(self) -> u32 {
        (1..self.month).map(|month| Date { month, ..self }.days_of_month()).sum::<u32>() + self.day - 1
    }

    /// 0 for Monday.
    fn weekday(self) -> usize {
        let before = self.year - 1;
        let days = 365 * before + before / 4 - before / 100 + before / 400;
        (days as usize + self.elapsed() as usize) % 7
    }

    /// Python's `strftime` for this day at midnight.
    pub(super) fn format(self, format: &str) -> Result<String, String> {
        let (month, weekday) = (MONTHS[self.month as usize - 1], DAYS[self.weekday()]);
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let mut directive = rest.next();
            let bare = directive == Some('-');
            if bare {
                directive = rest.next();
            }
            let number = |value: u32, width: usize| match bare {
                true => value.to_string(),
                false => format!("{value:0width$}"),
            };
            text += &match directive {
                Some('Y') => self.year.to_string(),
                Some('y') => number(self.year.unsigned_abs() % 100, 2),
                Some('m') => number(self.month, 2),
                Some('d') => number(self.day, 2),
                Some('e') => {
                    if bare {
                        self.day.to_string()
                    } else {
                        format!("{:2}", self.day)
                    }
                }
                Some('j') => number(self.elapsed() + 1, 3),
                Some('B') => month.to_string(),
                Some('b' | 'h') => month[..3].to_string(),
                Some('A') => weekday.to_string(),
                Some('a') => weekday[..3].to_string(),
                Some('w') => ((self.weekday() + 1) % 7).to_string(),
                Some('u') => (self.weekday() + 1).to_string(),
                Some('H' | 'M' | 'S') => number(0, 2),
                Some('I') => number(12, 2),
                Some('f') => "000000".to_string(),
                Some('p') => "AM".to_string(),
                Some('Z' | 'z') => String::new(),
                Some('F') => self.to_string(),
                Some('D' | 'x') => format!("{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
                Some('T' | 'X') => "00:00:00".to_string(),
                Some('R') => "00:00".to_string(),
                Some('c') => format!("{} {} {:2} 00:00:00 {}", &weekday[..3], &month[..3], self.day, self.year),
                Some('n') => "\n".to_string(),
                Some('t') => "\t".to_string(),
                Some('%') => "%".to_string(),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("`strftime_now` with `%{other}` is not supported"));
                }
            };
        }
        Ok(text)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl serde::Serialize for Date {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Date, String> {
        let wrong = || format!("{text:?} is no date; write it as \"2026-11-30\"");
        let parts: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let [year, month, day] = parts[..] else { return Err(wrong()) };
        if lengths != [4, 2, 2] || !parts.concat().bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let date = Date { year: number(year)? as i32, month: number(month)?, day: number(day)? };
        let fits = date.year > 0 && (1..=12).contains(&date.month) && (1..=date.days_of_month()).contains(&date.day);
        if fits { Ok(date) } else { Err(wrong()) }
    }
}
