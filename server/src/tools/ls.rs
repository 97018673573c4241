//! `tools bucket ls`: a line for each block: its id, what is most asked for, its meta.json, or what a
//! template says.

use engine::bucket::Meta;

use super::go_text;
use super::line_template::Template;

/// How a block is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Style {
    /// Its id.
    Id,
    /// Id, times, level, resolution and source.
    Wide,
    /// Its meta.json.
    Json,
    /// What the template says.
    Template(Template),
}

impl Style {
    /// The style that `--output` names.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "" => Ok(Self::Id),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            template => Template::parse(template).map(Self::Template),
        }
    }

    /// The block's text, with the end of its line.
    pub fn write(&self, meta: &Meta) -> Result<String, String> {
        let thanos = meta.thanos.clone().unwrap_or_default();
        let whole = |thanos| Meta { thanos: Some(thanos), ..meta.clone() };
        Ok(match self {
            Self::Id => format!("{}\n", meta.ulid),
            Self::Wide => {
                let (from, until) = (meta.min_time / 1000, meta.max_time / 1000);
                format!(
                    "{} -- {} - {} Diff: {}, Compaction: {}, Downsample: {}, Source: {}\n",
                    meta.ulid,
                    go_text::time(from),
                    go_text::time(until),
                    go_text::duration((until - from) * 1000),
                    meta.compaction.level,
                    thanos.downsample.resolution,
                    thanos.source,
                )
            }
            Self::Json => {
                let text = String::from_utf8_lossy(&whole(thanos).to_json()).into_owned();
                // A map that is not there is null in Go; one that is empty is not.
                if meta.thanos.is_none() { text.replacen("\"labels\": {}", "\"labels\": null", 1) } else { text }
            }
            Self::Template(template) => {
                let value = serde_json::to_value(whole(thanos)).map_err(|error| error.to_string())?;
                format!("{}\n", template.fill(&value)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use engine::bucket::meta::Thanos;

    use super::*;

    #[test]
    fn each_style_writes_a_block_as_thanos_does() {
        let id = "01M7YFZPB7TCST0ZACWKPZDYZM".parse().unwrap();
        let meta = Meta::new(id, 1_790_006_414_000, 1_790_013_590_123);
        let write = |style: &str| Style::parse(style).unwrap().write(&meta).unwrap();
        assert_eq!(write(""), "01M7YFZPB7TCST0ZACWKPZDYZM\n");
        let wide = "01M7YFZPB7TCST0ZACWKPZDYZM -- 2026-09-21T16:00:14Z - 2026-09-21T17:59:50Z Diff: 1h59m36s, \
                    Compaction: 1, Downsample: 0, Source: \n";
        assert_eq!(write("wide"), wide);
        assert_eq!(write("{{.MinTime}}"), "1790006414000\n");
        assert!(write("json").starts_with("{\n\t\"ulid\": \"01M7"));
        assert!(write("json").contains("\"thanos\": {\n\t\t\"labels\": null,\n"), "{}", write("json"));
        let labelled = Meta { thanos: Some(Thanos::default()), ..meta.clone() };
        assert!(Style::Json.write(&labelled).unwrap().contains("\"labels\": {},\n"));
    }
}
