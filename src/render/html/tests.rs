use super::*;

const HOSTILE: &str = "</script></pre><img src=x onerror=\"alert(1)\">&amp; '\u{202e}\x1b[31m\0";

/// A page in which every text is hostile.
fn hostile() -> Page {
    let text = || HOSTILE.to_string();
    let card = || vec![("label", text())];
    let subword = Subword {
        text: text(),
        bytes: text(),
        weight: Some(1.5),
        on_path: true,
        end: true,
        token: Some(0),
        card: card(),
    };
    let unseen = Subword { text: String::new(), weight: None, ..subword.clone() };
    let token = |segment| Token { gap: text(), text: text(), weight: 2.0, segment, card: card() };
    let code = Code {
        title: text(),
        tokens: vec![token(Some(1)), token(Some(1)), token(None), token(Some(2))],
        rest: text(),
        segments: vec![[text(), text(), text(), text(), text()]],
    };
    Page {
        title: text(),
        about: vec![text()],
        facts: vec![Fact { name: text(), value: text(), meaning: text(), alert: true }],
        scale: [1.0, 2.0],
        bars: vec![Bars { name: text(), count: 3, range: [1.0, 1.5, 2.0], bins: vec![2, 0, 0, 1] }],
        rows: vec![Row {
            line: 7,
            about: text(),
            notes: vec![text()],
            prompt: vec![unseen],
            learned: vec![subword],
            cut: Some((text(), text())),
            code: Some(code),
        }],
    }
}

#[test]
fn text_stays_text() {
    let seen = "&lt;/script&gt;&lt;/pre&gt;&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;amp; &#39;⟨U+202E⟩␛[31m␀";
    assert_eq!(escape(HOSTILE), seen);
    assert_eq!(escape("a\tb\nc\u{7f}\u{85}漢🙂"), "a\tb\nc\u{2421}\u{fffd}漢🙂");
    let page = render(&hostile());
    // escaped everywhere, and never verbatim
    assert_eq!(page.matches(seen).count(), 35);
    assert!(!page.contains("<img") && !page.contains("\u{202e}") && !page.contains('\0') && !page.contains('\x1b'));
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (1, 1));
    assert_eq!((page.matches("<pre").count(), page.matches("</pre").count()), (3, 3));
}

#[test]
fn nothing_is_requested_and_only_the_page_may_run() {
    let page = render(&hostile());
    for asking in ["http:", "https:", "src=\"", "url(", "@import", "<link", "<iframe", "fetch(", "XMLHttp", "eval("] {
        let found = page.matches(asking).count();
        // the one address is the SVG namespace, which no browser fetches
        assert_eq!(found, usize::from(asking == "http:"), "{asking}");
    }
    assert!(page.contains("http://www.w3.org/2000/svg"));
    let nonce = |page: &str| page.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_string();
    let own = nonce(&page);
    assert_eq!(own.len(), 24);
    assert!(page.contains("default-src 'none';") && page.contains(&format!("<script nonce=\"{own}\">")));
    assert!(page.contains(&format!("style-src 'nonce-{own}'")) && page.contains(&format!("<style nonce=\"{own}\">")));
    // another page has another nonce
    let other = render(&Page { title: "other".into(), ..hostile() });
    assert_ne!(nonce(&other), own);
}

#[test]
fn marks_and_colours_are_where_they_belong() {
    let subword = |text: &str, weight: Option<f64>, on_path| Subword {
        text: text.into(),
        bytes: "BC".into(),
        weight,
        on_path,
        token: Some(3),
        card: vec![("token id", "5".into()), ("bytes", "BC".into())],
        ..Subword::default()
    };
    let learned = vec![
        subword("low\n", Some(1.0), false),
        subword("", Some(3.0), true),
        Subword { end: true, ..subword("</s>", Some(2.0), false) },
    ];
    let row = Row {
        line: 12,
        prompt: vec![subword("given", None, false)],
        learned,
        cut: Some(("3 cut".into(), "lost".into())),
        ..Row::default()
    };
    let page = render(&Page { scale: [1.0, 3.0], rows: vec![row], ..Page::default() });
    let expected = concat!(
        "<pre class=\"tokens\">",
        "<span class=\"t h0\" tabindex=\"0\" title=\"token id\t5\nbytes\tBC\" data-like=\"r12k3\">low<i>↵</i>\n</span>",
        "<span class=\"t h8 p\" tabindex=\"-1\" title=\"token id\t5\nbytes\tBC\" data-like=\"r12k3\"><i \
         class=\"hex\">BC</i></span>",
        "<span class=\"t h4 end\" tabindex=\"-1\" title=\"token id\t5\nbytes\tBC\" \
         data-like=\"r12k3\">&lt;/s&gt;</span>",
        "<b class=\"cut\">3 cut</b><s>lost</s></pre>"
    );
    assert!(page.contains(expected), "{page}");
    assert!(page.contains("<details><summary>Prompt, 1 subwords</summary>"));
    assert!(page.contains("<span class=\"t m\" tabindex=\"0\""));
    assert!(page.contains("<section class=\"row\" id=\"row-12\">") && page.contains("<a href=\"#row-12\">12</a>"));
}

#[test]
fn a_path_numbers_its_segments_once() {
    let page = render(&hostile());
    let body = page.split("<div class=\"code\">").nth(1).unwrap();
    let (first, second) = (body.find("<b data-n=\"1\"></b>").unwrap(), body.find("<b data-n=\"2\"></b>").unwrap());
    assert!(first < second && body.matches("<b data-n").count() == 2);
    for (id, rest) in [
        ("r7k0", " p\" data-s=\"1\">"),
        ("r7k1", " p\" data-s=\"1\">"),
        ("r7k2", "\">"),
        ("r7k3", " p\" data-s=\"2\">"),
    ] {
        let span = body.split(&format!("<span id=\"{id}\"")).nth(1).unwrap();
        let tag = span.split("class=\"t h8").nth(1).unwrap();
        assert!(tag.starts_with(rest), "{id}: {tag}");
    }
}

#[test]
fn every_weight_has_a_level() {
    let levels: Vec<usize> = [0.0, 1.0, 1.5, 2.0, 9.0].map(|w| level(w, [1.0, 2.0])).to_vec();
    assert_eq!(levels, [0, 0, 4, 8, 8]);
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (w, scale) in [(odd, [0.0, 1.0]), (0.0, [odd, 1.0]), (0.0, [0.0, odd]), (1.0, [1.0, 1.0])] {
            assert!(level(w, scale) < LEVELS);
        }
    }
}

#[test]
fn a_histogram_shows_every_count() {
    let bars = Bars { name: "EOS".into(), count: 1001, range: [1.0, 1.0, 2.0], bins: vec![1000, 0, 0, 1] };
    let html = histogram(&[bars], [1.0, 2.0]);
    assert_eq!(html.matches("<rect").count(), 2);
    assert!(html.contains("<rect class=\"f1\" x=\"0.5\" y=\"1.5\" width=\"10.0\" height=\"24.0\"/>"), "{html}");
    // one in a thousand is still visible
    assert!(html.contains("<rect class=\"f7\" x=\"33.5\" y=\"24.0\" width=\"10.0\" height=\"1.5\"/>"), "{html}");
    assert!(html.contains("<title>EOS: 1.000 to 2.000, mean 1.000</title>"));
}

/// The values of a custom property in the style sheet: on light pages, on dark pages.
fn colours(name: &str) -> [[f64; 3]; 2] {
    let hex = |text: &str, at: usize| f64::from(u8::from_str_radix(&text[at..at + 2], 16).unwrap()) / 255.0;
    let style = [BASE, STYLE].concat();
    let found: Vec<[f64; 3]> =
        style.split(&format!("--{name}: #")).skip(1).map(|rest| [0, 2, 4].map(|at| hex(rest, at))).collect();
    found.try_into().unwrap()
}

/// Relative luminance (WCAG 2.1).
fn luminance(rgb: [f64; 3]) -> f64 {
    let [r, g, b] = rgb.map(|c| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    (a / b).max(b / a)
}

#[test]
fn text_reads_on_every_colour_and_lightness_orders_the_weights() {
    let mut last = colours("box");
    for step in 0..LEVELS {
        let (back, ink) = (colours(&format!("h{step}")), colours(&format!("k{step}")));
        for theme in [0, 1] {
            let reads = contrast(back[theme], ink[theme]);
            assert!(reads >= 4.5, "h{step}, theme {theme}: {reads}");
            let darker = luminance(back[theme]) < luminance(last[theme]);
            assert_eq!(darker, theme == 0, "h{step}, theme {theme}: lightness must go one way");
        }
        last = back;
    }
    for (front, back) in
        [("ink", "paper"), ("ink", "box"), ("faint", "paper"), ("faint", "box"), ("alert", "paper"), ("arrow", "paper")]
    {
        for theme in [0, 1] {
            let reads = contrast(colours(front)[theme], colours(back)[theme]);
            assert!(reads >= 4.5, "{front} on {back}, theme {theme}: {reads}");
        }
    }
}
