//! Words of a caption as the Penn Treebank has them: Stanford's `PTBTokenizer -preserveLines -lowerCase`, and without the punctuation
//! that `pycocoevalcap` takes out.
//!
//! Of the patterns of a token the one that matches most is taken, what it needs to see behind the token included; the first among
//! equals. Contractions come apart (`ca n't`, `it 's`), words with hyphens stay whole, and a full stop belongs to an abbreviation.

use std::sync::LazyLock;

use regex::Regex;

/// Tokens that are no words. Brackets, which are lower-cased before, stay.
const PUNCTUATION: [&str; 13] = [
    "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";",
];

/// Words of a caption.
pub fn words(caption: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = caption;
    while let Some(first) = rest.chars().next() {
        let (token, length) = next(rest).unwrap_or((String::new(), first.len_utf8()));
        rest = &rest[length..];
        let token = token.to_lowercase();
        words.extend(
            token
                .split_whitespace()
                .filter(|word| !PUNCTUATION.contains(word))
                .map(str::to_owned),
        );
    }
    words
}

/// A pattern of tokens; the first group is the token where there is one, and the rest is what has to stand behind it.
struct Rule {
    pattern: Regex,
    /// What is written for it, where that is not the token itself.
    written: fn(&str) -> String,
}

/// The token at the beginning of `rest`, and how much of it that is.
fn next(rest: &str) -> Option<(String, usize)> {
    let mut found: Option<(usize, usize, &Rule)> = None;
    for rule in RULES.iter() {
        let Some(groups) = rule.pattern.captures(rest) else {
            continue;
        };
        let most = groups.get(0).map_or(0, |whole| whole.end());
        let token = groups.get(1).map_or(most, |token| token.end());
        if token > 0 && found.is_none_or(|(known, ..)| most > known) {
            found = Some((most, token, rule));
        }
    }
    let (_, length, rule) = found?;
    Some(((rule.written)(&rest[..length]), length))
}

#[allow(
    clippy::expect_used,
    reason = "constant patterns, compiled in every test"
)]
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let same: fn(&str) -> String = str::to_owned;
    let word = r"[\p{L}\p{M}]";
    let alnum = r"[\p{L}\p{M}\p{N}]";
    let apos = r"(?:['’]|&apos;)";
    let url_end = r#"[^\s<>|.!?(){},"\-\]]"#;
    // Abbreviations that keep their full stop.
    let months = "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec";
    let days = "mon|tue|tues|wed|thu|thurs|fri";
    let states = "calif|mass|conn|fla|ariz|wash|mich|kan|minn|mo|nev|okla|ore|pa|tenn|tex|vt|va|wis|ala|ark|colo|del|ga|ill|ind|ky|md|miss|mont|neb|dak|wyo|la|penn";
    let titles = "mr|mrs|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|st|ste|ave|pres|lieut|rt|hon|brig|co?mdr|pfc|spc|supts?|det|mt|ft|adj|asst|assoc|ens|insp|mlle|mme|msgr|sfc";
    let others = "etc|vs|inc|cos?|corp|pp?t[ye]s?|ltd|plc|bancorp|dept|bhd|assn|univ|intl|sys|est|ext|sq|jr|sr|bros|ed|eds|figs?|prop|nos?|no|al|esp|seq|ca|viz|bldg|pub|tel|blvd|rd|mph";
    let abbreviation = format!("(?:{months}|{days}|{states}|{titles}|{others}|ph\\.?d)");
    [
        // Between tokens.
        (r"\s+".to_owned(), (|_| String::new()) as fn(&str) -> String),
        (r"<[/!?]?[A-Za-z][^>\r\n]*>".into(), same),
        (r"&(?i:amp);".into(), |_| "&".into()),
        (r"&(?i:lt);".into(), |_| "<".into()),
        (r"&(?i:gt);".into(), |_| ">".into()),
        (r"&(?i:quot);".into(), |_| "''".into()),
        (r"&(?i:nbsp);".into(), |_| String::new()),
        // Addresses.
        (format!(r#"(?i:https?|ftp|svn|ssh|mailto)://[^\s<>|(){{}}"]*{url_end}"#), same),
        (format!(r#"(?i:www\.)?(?:[^\s<>|.!?(){{}},"'\[\]/@:]+\.)+(?i:com|net|org|edu)(?:/[^\s<>|(){{}}"]*{url_end})?"#), same),
        (r#"[A-Za-z0-9][^\s"<>|()\u{a0}]*@(?:[^\s"<>|()\u{a0}.,]+\.)*[^\s"<>|()\u{a0}.,]+"#.into(), same),
        (r"@[A-Za-z_]\w*|#[A-Za-z]\w*".into(), same),
        // Contractions.
        (format!(r"(?i)(can)not\b"), same),
        (r"(?i)(gon|wan|got)(?:na|ta)\b".into(), same),
        (r"(?i)(lem|gim)me\b".into(), same),
        (format!(r"(?i)({word}+)n{apos}t(?:[^\p{{L}}\p{{N}}]|$)"), same),
        (format!(r"(?i)n{apos}t"), same),
        (format!(r"(?i){apos}(?:s|d|m|re|ve|ll)"), same),
        (format!(r"(?i)({apos}t)(?:is|was)\b"), same),
        (format!(r"(?i)(d{apos})ye\b"), same),
        (format!(r"(?i)(y{apos})(?:all)"), same),
        (format!(r"(?i)o{apos}clock|(?:rock|{apos}n){apos}"), same),
        (format!(r"[A-HJ-XZ]{apos}{word}{word}+"), same),
        // Words.
        (format!(r"{word}+"), same),
        (format!(r"(?:{alnum}+(?:[_]{alnum}*)*)(?:-{alnum}[{alnum_}_]*)*", alnum_ = r"\p{L}\p{M}\p{N}"), same),
        (format!(r"(?:{word}\.)+(?:{word}\.?)?"), same),
        (format!(r"(?i){abbreviation}\."), same),
        (r"(?i)[a-z]+(?:/[a-z0-9]+)+".into(), same),
        (r"(?i)[a-z]+\+\+|c#".into(), same),
        // Numbers.
        (r"[-+]?\d+(?:[.,:]\d+)*".into(), same),
        (r"[-+]?[.,]\d+(?:[.,:]\d+)*".into(), same),
        (r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}".into(), same),
        (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}".into(), same),
        (format!(r"{apos}[2-9]0s"), same),
        // Signs.
        (r"[()]".into(), |sign| if sign == "(" { "-LRB-" } else { "-RRB-" }.into()),
        (r"[\[\]]".into(), |sign| if sign == "[" { "-LSB-" } else { "-RSB-" }.into()),
        (r"[{}]".into(), |sign| if sign == "{" { "-LCB-" } else { "-RCB-" }.into()),
        (r"\.{3,}|…".into(), |_| "...".into()),
        (r"-{2,}|[–—]".into(), same),
        (r"[?!]+".into(), same),
        (r".".into(), same),
    ]
    .into_iter()
    .map(|(pattern, written)| Rule {
        pattern: Regex::new(&format!("^(?:{pattern})")).expect("valid pattern"),
        written,
    })
    .collect()
});
