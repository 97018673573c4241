//! Remote write requests of a fleet, encoded and compressed before the clock starts.

use super::{Args, INTERVAL_MS};

/// The requests of one round: each series of a generation with one sample at `time`.
pub fn requests(args: &Args, time: i64, generation: usize) -> Vec<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let batches = (0..args.series).step_by(args.batch.max(1));
    let body = |first: usize| {
        let mut request = Vec::new();
        for number in first..(first + args.batch).min(args.series) {
            series(&mut request, (number, generation), time);
        }
        encoder.compress_vec(&request).expect("a request is far below 4 GiB")
    };
    batches.map(body).collect()
}

/// Appends a series shaped like those of a Kubernetes fleet.
fn series(request: &mut Vec<u8>, (number, generation): (usize, usize), time: i64) {
    let labels = [
        ("__name__", format!("http_requests_{:03}_total", number % 200)),
        ("cluster", "perf".to_owned()),
        ("container", format!("app-{}", number % 7)),
        ("generation", generation.to_string()),
        ("instance", format!("10.0.{}.{}:8080", number / 200 % 256, number / 51_200)),
        ("job", "kubernetes-pods".to_owned()),
        ("method", ["GET", "POST", "PUT", "DELETE"][number % 4].to_owned()),
        ("namespace", format!("team-{:02}", number / 200 % 40)),
        ("pod", format!("svc-{}-7d9f8b6c5d-{:05}", number / 200 % 97, number / 200)),
        ("status", ["200", "404", "500"][number % 3].to_owned()),
    ];
    let mut message = Vec::new();
    for (name, value) in &labels {
        let len = name.len() + value.len() + 4;
        message.extend_from_slice(&[0x0a, len as u8, 0x0a, name.len() as u8]);
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(&[0x12, value.len() as u8]);
        message.extend_from_slice(value.as_bytes());
    }
    let mut sample = vec![0x09];
    sample.extend_from_slice(&((number as i64 + time / INTERVAL_MS) as f64).to_le_bytes());
    sample.push(0x10);
    varint(&mut sample, time as u64);
    message.extend_from_slice(&[0x12, sample.len() as u8]);
    message.extend_from_slice(&sample);
    request.push(0x0a);
    varint(request, message.len() as u64);
    request.extend_from_slice(&message);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_one_message_of_sorted_labels_and_one_sample() {
        let mut request = Vec::new();
        series(&mut request, (7, 0), 1_790_000_000_000);
        assert_eq!(request[0], 0x0a);
        let len = usize::from(request[1] & 0x7f) | usize::from(request[2]) << 7;
        assert_eq!(len + 3, request.len());
        let names = ["__name__", "cluster", "container", "generation", "instance", "job", "method", "namespace"];
        let text = String::from_utf8_lossy(&request).into_owned();
        let places: Vec<_> = names.iter().map(|name| text.find(name).unwrap()).collect();
        assert!(places.is_sorted());
    }
}
