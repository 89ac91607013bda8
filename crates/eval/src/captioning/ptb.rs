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

/// Abbreviations that keep their full stop, in any case.
const ABBREVIATIONS: &str = "adj|adm|adv|ala?|apr|ariz|assn|assoc|asst|attys?|aug|ave|bancorp|bhd|bldg|blvd|brig|bros|calif|capt|cf|cie|\
    cmdr|cos?|col|colo|comdr|conn|corp|cpl|ct|dak|dec|dept|det|drs?|ens|esq|est|etc|ext|feb|fla|fri|ft|ga|gen|govs?|hon|inc|ind|insp|\
    intl|jan|jos|jr|jul|jun|kan|ky|lieut|lt|ltd|maj|mar|md|messrs|mfg|mich|minn|mlle|mme|mon?|mont|mrs?|ms|msgr|mt|mtg|natl|neb|nev|\
    nov|oct|okla|penn|pfc|ph|plc|pres|profs?|pt[ey]|pvt|rd|reps?|rev|rt|sens?|sept?|seq|sfc|sgt|spc|sq|sr|ste?|supt|sys|tel|tenn|\
    thu|thurs|tues?|univ|va|vs|vt|wed|wis|wm|wyo";
/// Those that keep it with a capital alone.
const NAMES: &str = "A[Zz]|A[Rr][Kk]|D[Ee][Ll]|I[Ll][Ll]|L[Aa]|M[Aa][Ss][Ss]|M[Ii][Ss][Ss]|O[Rr][Ee]|P[Aa]|T[Ee][Xx]|W[Aa][Ss][Hh]";
/// Words that begin a sentence where an initial stands before them.
const BEGINNINGS: &str = "A|About|According|After|An|As|At|But|Earlier|He|Her|Here|However|If|In|It|Last|Many|More|Now|Once|One|Other|\
    Our|She|Since|So|Some|Such|That|The|Their|Then|There|These|They|This|We|What|When|While|Yet|You";

/// Words of a caption.
pub fn words(caption: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = caption;
    while let Some(first) = rest.chars().next() {
        let (token, length) = next(rest).unwrap_or((String::new(), first.len_utf8()));
        rest = &rest[length..];
        let token = token.to_lowercase().replace('’', "'");
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
    let name = r"[A-Za-z][-\w:.]*";
    let word = r"[\p{L}\p{M}]";
    let alnum = r"[\p{L}\p{M}\p{N}]";
    let apos = r"(?:['’]|&apos;)";
    let url_end = r#"[^\s<>|.!?(){},"\-\]]"#;
    [
        // Between tokens.
        (r"\s+".to_owned(), (|_| String::new()) as fn(&str) -> String),
        (
            format!(r#"<[!?]?[A-Za-z][-\w:.]*(?:\s+{name}(?:\s*=\s*(?:"[^"]*"|'[^']*'|{name}))?)*\s*/?>|</{name}\s*>"#),
            same,
        ),
        (r"&(?i:amp);".into(), |_| "&".into()),
        (r"&(?i:lt);".into(), |_| "<".into()),
        (r"&(?i:gt);".into(), |_| ">".into()),
        (r"&(?i:quot);".into(), |_| "''".into()),
        (r"&(?i:nbsp);".into(), |_| String::new()),
        (r"&(?:[mn]dash|MD|UR|HT);".into(), |_| "--".into()),
        // Addresses.
        (format!(r#"(?i:https?|ftp|svn|ssh|mailto)://[^\s<>|(){{}}"]*{url_end}"#), same),
        (format!(r#"(?i:www\.)?(?:[^\s<>|.!?(){{}},"'`$\[\]/@:]+\.)+(?i:com|net|org|edu)(?:/[^\s<>|(){{}}"]*{url_end})?"#), same),
        (r#"[A-Za-z0-9][^\s"<>|()\u{a0}]*@(?:[^\s"<>|()\u{a0}.,]+\.)*[^\s"<>|()\u{a0}.,]+"#.into(), same),
        (r"@[A-Za-z_]\w*|#[A-Za-z]\w*".into(), same),
        // Contractions.
        (r"(?i)(can)not\b".to_owned(), same),
        (r"(?i)(gon|wan|got)(?:na|ta)\b".into(), same),
        (r"(?i)(lem|gim)me\b".into(), same),
        (format!(r"(?i)({word}+)n{apos}t(?:[^\p{{L}}\p{{N}}]|$)"), same),
        (format!(r"(?i)n{apos}t"), same),
        (format!(r"(?i)({apos}(?:s|d|m|re|ve|ll))(?:[^\p{{L}}]|$)"), same),
        (format!(r"(?i)({apos}t)(?:is|was)\b"), same),
        (format!(r"(?i)[dl]{apos}{word}+|c{apos}mon|ol{apos}|somethin{apos}"), same),
        (format!(r"(?i)(j{apos}){word}"), same),
        (format!(r"(?i)(y{apos})(?:all)"), same),
        (format!(r"(?i){word}*[aeiouy]{apos}[aeiou]{word}*"), same),
        (format!(r"(?i)o{apos}clock|{apos}n{apos}|{apos}em|{apos}till?|{apos}cause"), same),
        (format!(r"[A-HJ-XZn]{apos}{word}{word}+"), same),
        // Words.
        (format!(r"{word}+"), same),
        (format!(r"{alnum}+(?:[-_]{alnum}+)*"), same),
        (format!(r"{word}{alnum}*(?:\.{word}{alnum}*)+"), same),
        (format!(r"{alnum}+(?:\.\d+){{2,}}(?:\.{word}{alnum}*)+"), same),
        (format!(r"{alnum}+(?:[.,]\d+)+(?:-{alnum}+)+"), same),
        (format!(r"{alnum}+(?:-[A-Za-z]+){{0,2}}(?:/{alnum}+(?:-[A-Za-z]+){{0,2}}){{1,2}}"), same),
        (r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+".into(), |token| token.replace("&amp;", "&")),
        (format!(r"(?:{word}\.)+(?:{word}\.)?"), same),
        (format!(r"(?:{word}\.){{2,}}(?:-{alnum}+)+"), same),
        (format!(r"(?i)(?:ph\.d|{ABBREVIATIONS})\."), same),
        (format!(r"(?:{NAMES})\."), same),
        (r"(?i)((?:figs?|nos?|pp|prop|ca|art|op)\.)\s*\d".into(), same),
        (format!(r"({word})\.\s+(?:{BEGINNINGS})\b"), same),
        (r"(?i)[a-z]\+\+|[cf]#".into(), same),
        // Numbers.
        (r"[-+]?\d+(?:[.,:]\d+)*".into(), same),
        (r"[-+]?[.,:]\d+(?:[.,:]\d+)*".into(), same),
        (r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}".into(), same),
        (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}".into(), same),
        (format!(r"{apos}[2-9]0s"), same),
        // Faces.
        (r"(?i)([<>]?[:;=]['o*-]?[dpo])(?:[^\p{L}\p{N}]|$)".into(), same),
        (r"([<>]?[:;=]['o*-]?[()\[\]{}@|\\])(?:[^\p{L}\p{N}]|$)".into(), |face| face.replace('(', "-LRB-").replace(')', "-RRB-")),
        (r"[-^'x=~<>][_.][-^'x=~<>]|[ToO]_[ToO]".into(), same),
        // Signs.
        (r"[£]".into(), |_| "#".into()),
        (r"[€¤]".into(), |_| "$".into()),
        (r"¢".into(), |_| "cents".into()),
        (r"[¼½¾]".into(), |sign| match sign {
            "¼" => "1/4",
            "½" => "1/2",
            _ => "3/4",
        }.into()),
        (r"(?:US|A|C|HK|NZ)?\$".into(), same),
        (r"[\x{10000}-\x{10ffff}]".into(), |_| String::new()),
        (r"[()]".into(), |sign| if sign == "(" { "-LRB-" } else { "-RRB-" }.into()),
        (r"[\[\]]".into(), |sign| if sign == "[" { "-LSB-" } else { "-RSB-" }.into()),
        (r"[{}]".into(), |sign| if sign == "{" { "-LCB-" } else { "-RCB-" }.into()),
        (r"\.{3,}|…".into(), |_| "...".into()),
        (r"-{2,}|[–—―]".into(), |_| "--".into()),
        (r"\*+|_+|#+|@{2,}|<<|>>".into(), same),
        (r#"["“”„«»]|``|'{2}"#.into(), |_| "''".into()),
        (r"[‘’]".into(), |_| "'".into()),
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
