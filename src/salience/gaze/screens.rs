//! The screen of each participant.

use std::collections::BTreeMap;
use std::path::Path;

use super::table::{Dialect, Table};
use super::text::clip;
use crate::error::{Error, Result};

/// The size of a screen in pixels: width, height.
pub type Size = [f64; 2];

/// The screens of participants: from a table with the columns `id`, `screen_w`, `screen_h`, otherwise one screen for
/// all.
#[derive(Clone, Debug, Default)]
pub struct Screens {
    listed: BTreeMap<String, Size>,
    common: Option<Size>,
}

impl Screens {
    /// Reads the table, if given. `common` is the screen of participants that it does not list.
    pub fn load(participants: Option<&Path>, common: Option<Size>) -> Result<Screens> {
        let mut screens = Screens { listed: BTreeMap::new(), common };
        let Some(file) = participants else { return Ok(screens) };
        let mut table = Table::open(file, Dialect::CSV)?;
        let remedy = "a table of participants needs id, screen_w and screen_h (pixels)";
        let id = table.column("id", remedy)?;
        let [w, h] = [table.column("screen_w", remedy)?, table.column("screen_h", remedy)?];
        while let Some(line) = table.advance()? {
            let name = table.text(id, line)?;
            let size = [table.number(w, line)?, table.number(h, line)?];
            if !size.iter().all(|side| (1.0..=1e5).contains(side)) {
                let [w, h] = size;
                let why = format!("a screen of {w} x {h} pixels; give its width and height in pixels");
                return Err(Error::row(file, line, why));
            }
            if screens.listed.insert(name.clone(), size).is_some_and(|before| before != size) {
                let why = format!("participant `{}` has another screen above; keep one", clip(&name));
                return Err(Error::row(file, line, why));
            }
        }
        Ok(screens)
    }

    /// The screen of a participant, if it is known.
    pub fn of(&self, participant: &str) -> Option<Size> {
        self.listed.get(participant).copied().or(self.common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_screen_goes_before_the_common_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.csv");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Screens::load(Some(&file), Some([800.0, 600.0])).map_err(|e| {
                let text = e.to_string();
                text[text.find("p.csv").unwrap()..].to_string()
            })
        };
        let screens = load("id,group,screen_w,screen_h\na,x,1920,1080\nb,x,1680,1050\n").unwrap();
        assert_eq!((screens.of("b"), screens.of("c")), (Some([1680.0, 1050.0]), Some([800.0, 600.0])));
        assert_eq!(Screens::default().of("a"), None);
        assert!(
            load("id,w\n").unwrap_err().starts_with("p.csv:1: no column `screen_w`; there are `id`, `w`; a table of")
        );
        assert!(load("id,screen_w,screen_h\na,0,5\n").unwrap_err().starts_with("p.csv:2: a screen of 0 x 5 pixels"));
        let twice = load("id,screen_w,screen_h\na,9,5\na,9,5\na,9,6\n").unwrap_err();
        assert_eq!(twice, "p.csv:4: participant `a` has another screen above; keep one");
    }
}
