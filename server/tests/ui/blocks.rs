//! The blocks page in headless Chromium: streams, levels and marks of a bucket, and marking a block.

use crate::support::browser::{Browser, Screen, key};
use crate::support::{Uru, write_block};

const DAY: i64 = 86_400_000;

#[test]
fn the_blocks_page_shows_streams_and_marks_and_marks_blocks_unless_that_is_disabled() {
    let Some(browser) = Browser::start(Screen::Desktop) else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    let first = write_block(&bucket, 1, (2, DAY));
    let second = write_block(&bucket, 2, (3, 2 * DAY));
    let other = write_block(&bucket, 3, (4, 2 * DAY));
    let meta = std::fs::read_to_string(other.join("meta.json")).unwrap();
    std::fs::write(other.join("meta.json"), meta.replace("\"c1\"", "\"c2\"")).unwrap();
    let id = |block: &std::path::Path| block.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::write(
        first.join("no-compact-mark.json"),
        format!("{{\"id\":\"{}\",\"version\":1,\"no_compact_time\":1,\"reason\":\"manual\"}}", id(&first)),
    )
    .unwrap();
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    let data = format!("--data-dir={}", folder.path().join("work").display());
    let compact = ["compact", "--wait", &config, &data];
    let web = ["tools", "bucket", "web", &config];
    let (no, yes) = ("--disable-admin-operations", "--no-disable-admin-operations");
    for (words, flag) in [(&web[..], no), (&compact[..], no), (&compact[..], yes)] {
        let uru = Uru::start_http(&[words, &[flag]].concat());
        uru.wait_for("/api/v1/blocks", &id(&second));
        browser.open(&format!("http://{}/status", uru.http));
        browser.wait("document.body.innerText.includes('Build') && document.body.innerText.includes('goVersion')");
        browser.open(&format!("http://{}/blocks", uru.http));
        browser.wait("document.querySelectorAll('.block').length === 3");
        browser.wait("document.querySelectorAll('.stream').length === 2");
        browser.wait("document.querySelectorAll('.block.marked').length === 1");
        browser.wait_for_text(".stream", "cluster=c2");
        let label = |block: &std::path::Path| format!(".block[aria-label^='Block {}']", id(block));
        browser.click(&label(&first));
        browser.wait_for_text(".badge", "left out of compaction");
        browser.wait("document.activeElement.ariaLabel === 'Block'");
        // The one that is open already is gone to again, and left for where it was chosen.
        browser.run("document.querySelector('.filter').focus()");
        browser.click(&label(&first));
        browser.wait("document.activeElement.ariaLabel === 'Block'");
        browser.click("[aria-label=Close]");
        browser.wait(&format!("document.activeElement.matches(\"{}\")", label(&first)));
        browser.type_into(".filter", "\"C2\"");
        browser.wait("document.querySelectorAll('.block').length === 1");
        browser.type_into(".filter", "?");
        browser.wait_for_text("main", "No block matches the filter.");
        browser.press(&[key::CONTROL, 'a']);
        browser.press(&[key::BACKSPACE]);
        browser.wait("document.querySelectorAll('.block').length === 3");
        browser.click(&label(&second));
        browser.wait_for_text("[aria-label=Block] h2", &id(&second));
        browser.wait_for_text("[aria-label=Block]", "Download meta.json");
        if flag == no {
            assert_eq!(browser.run("return document.body.innerText.includes('Mark for deletion')"), false);
            continue;
        }
        browser.run("window.confirm = () => true");
        browser.click_text("[aria-label=Block] button", "Mark for deletion");
        browser.wait_for_text(".message.info", "marked for deletion");
        // The page asks again what there is.
        let asked = "performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('view=global'))";
        browser.wait(&format!("{asked}.length === 2"));
        assert!(second.join("deletion-mark.json").exists());
        assert!(!other.join("deletion-mark.json").exists());
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}
