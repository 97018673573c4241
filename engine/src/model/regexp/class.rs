//! Classes of characters: Perl's, POSIX' and Unicode's as Go has them.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::super::text::unicode_class;

/// Go's names of scripts, which must be written exactly so.
const SCRIPTS: &str = "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak \
    Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma \
    Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru \
    Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati \
    Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited \
    Inscriptional_Pahlavi Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi \
    Khitan_Small_Script Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani \
    Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui \
    Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari \
    New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian \
    Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage Osmanya Pahawh_Hmong \
    Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan Saurashtra Sharada Shavian \
    Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le \
    Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai \
    Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square";

/// Go's names of general categories that the Unicode tables answer for.
const CATEGORIES: &str = "Cc Cf Co L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So \
    Z Zl Zp Zs";

/// The class of what lies between `low` and `high`, surrogates left out.
pub(super) fn range(low: u32, high: u32) -> ClassUnicode {
    let mut class = ClassUnicode::empty();
    for (low, high) in [(low, high.min(0xd7ff)), (low.max(0xe000), high)] {
        if let (Some(low), Some(high), true) = (char::from_u32(low), char::from_u32(high), low <= high) {
            class.push(ClassUnicodeRange::new(low, high));
        }
    }
    class
}

fn ascii(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)))
}

/// The class of `\d`, `\s` or `\w`, or of their negations, which have capital letters.
pub(super) fn perl(letter: char) -> Option<(ClassUnicode, bool)> {
    let ranges: &[(char, char)] = match letter.to_ascii_lowercase() {
        'd' => &[('0', '9')],
        's' => &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')],
        'w' => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        _ => return None,
    };
    Some((ascii(ranges), letter.is_ascii_uppercase()))
}

/// The class called `name`, as `alpha` of `[:alpha:]`.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    Some(ascii(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    }))
}

/// The class of a category or script as `\p{name}` names it.
pub(super) fn unicode(name: &str) -> Option<ClassUnicode> {
    match name {
        "Any" => return Some(range(0, u32::from(char::MAX))),
        "Cs" => return Some(ClassUnicode::empty()),
        "Cn" => return Some(unassigned()),
        "C" => {
            let mut class = unicode_class(r"[\p{Cc}\p{Cf}\p{Co}]");
            class.union(&unassigned());
            return Some(class);
        }
        _ => {}
    }
    if CATEGORIES.split_ascii_whitespace().any(|known| known == name) {
        return Some(unicode_class(&format!(r"\p{{gc={name}}}")));
    }
    let is_script = SCRIPTS.split_ascii_whitespace().any(|known| known == name);
    is_script.then(|| unicode_class(&format!(r"\p{{sc={name}}}")))
}

fn unassigned() -> ClassUnicode {
    let mut class = unicode_class(r"\p{any}");
    class.negate();
    class
}
