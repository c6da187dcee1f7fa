//! Everything at once for a while, with one in ten leaving all the time: neither memory nor descriptors
//! grow, and nobody is turned away. Seconds here, an hour in `cargo xtask soak mixed`.

mod support;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Client;
use support::database::Database;
use support::http::{HttpClient, request};
use support::listener::{self, Coming, Listener, Way, publish};
use support::server::Setup;
use support::{eventually, rounds};

/// Who stays: this many, of whom a tenth is replaced in ten seconds.
const STREAMS: usize = 200;
const REPLACED_EVERY: Duration = Duration::from_millis(10_000 / (STREAMS as u64 / 10));

/// Channels that most are on; one in five is on one of its own.
const CHANNELS: u64 = 40;

/// So many requests a connection makes before another takes its place.
const REQUESTS: usize = 10;

/// Polls that wait at a time.
const POLLS: usize = 6;

/// How much more memory there may be at the end of the time that is looked at than at its beginning:
/// in an hour, and where that is so short that it tells nothing about an hour.
const GROWN_BYTES_PER_HOUR_MAX: f64 = (1 << 20) as f64;
const GROWN_BYTES_MAX: f64 = (4 << 20) as f64;

/// What is looked at for so long tells something about an hour.
const LONG: Duration = Duration::from_secs(30 * 60);

/// What is done again and again until it is over.
struct Load<'a> {
    is_over: &'a AtomicBool,
    done: AtomicU64,
}

impl Load<'_> {
    /// Does `work` with a connection of its own again and again, with a pause; another connection takes
    /// over after some requests.
    fn run<C>(&self, pause: Duration, connect: impl Fn() -> C, mut work: impl FnMut(&mut C, u64)) {
        let mut nth = 0;
        loop {
            let mut client = connect();
            for _ in 0..REQUESTS {
                if self.is_over.load(Ordering::Relaxed) {
                    return;
                }
                work(&mut client, nth);
                nth += 1;
                self.done.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pause);
            }
        }
    }
}

/// Streams and WebSockets that read everything, and come and go.
fn listen(public: SocketAddr, is_over: &AtomicBool) -> u64 {
    let (mut bytes, mut nth) = (0, 0_u64);
    let mut come = || {
        nth += 1;
        let channel = if nth.is_multiple_of(5) {
            format!("own{nth}")
        } else {
            format!("c{}", nth % CHANNELS)
        };
        let way = if nth.is_multiple_of(3) { Way::Socket } else { Way::Events };
        let stream = Listener::open(public, Coming::to(way, &channel)).stream;
        stream.set_nonblocking(true).expect("a socket can");
        stream
    };
    let mut streams: VecDeque<TcpStream> = (0..STREAMS).map(|_| come()).collect();
    let mut replaced = Instant::now();
    let mut buffer = [0; 64 * 1024];
    while !is_over.load(Ordering::Relaxed) {
        for mut stream in &streams {
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => panic!("a stream has ended"),
                    Ok(count) => bytes += count as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("a stream has ended: {error}"),
                }
            }
        }
        if replaced.elapsed() >= REPLACED_EVERY {
            replaced += REPLACED_EVERY;
            streams.pop_front();
            streams.push_back(come());
        }
        thread::sleep(Duration::from_millis(5));
    }
    bytes
}

/// What the server had at a time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    bytes: f64,
    descriptors: f64,
}

/// Descriptors that the process has open, but for those of threads with a table of their own.
fn descriptors(process_id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process_id}/fd")).expect("the server runs").count()
}

/// By how much the line through the samples rises in a second.
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&|sample| sample.seconds), mean(&value));
    let (mut product, mut square) = (0.0, 0.0);
    for sample in samples {
        product += (sample.seconds - mean_x) * (value(sample) - mean_y);
        square += (sample.seconds - mean_x).powi(2);
    }
    product / square
}

#[test]
fn the_line_through_samples_is_found() {
    let sample = |seconds: f64| Sample { seconds, bytes: 5.0 + 3.0 * seconds, descriptors: 7.0 };
    let samples = [1.0, 2.0, 4.0, 9.0].map(sample);
    assert!((slope(&samples, |sample| sample.bytes) - 3.0).abs() < 1e-9);
    assert!(slope(&samples, |sample| sample.descriptors).abs() < 1e-9);
}

#[test]
fn nothing_grows_while_people_come_and_go() {
    let length = Duration::from_secs(rounds("ESERVER_MIXED_SECONDS", 20) as u64);
    let database = Database::sqlite();
    database.query("create table t(num integer)");
    let text = format!(
        "[[drain]]\nurl = \"{}\"\n[drain.statements]\nadd = \"insert into t(num) \
         values (?)\"\n[http]\nlisten = \"127.0.0.1:0\"\n[[http.respond]]\npath = \"/hello\"\n\
         body = \"hello\"\n",
        database.url()
    );
    // What nobody is on any more is to go within the time of the short form.
    let setup =
        Setup::new().text(text).set("comet.poll_timeout_s", 2).set("comet.channel_idle_s", 3);
    let mut server = setup.start();
    let (public, admin, http) =
        (server.public_address(), server.admin_address(), server.http_address());
    let queue = server.address();
    let is_over = AtomicBool::new(false);
    let load = || Load { is_over: &is_over, done: AtomicU64::new(0) };
    let [polls, publications, puts, takes, gets] = [(); 5].map(|()| load());
    let short = Duration::from_millis(2);
    let samples = thread::scope(|scope| {
        let listeners = scope.spawn(|| listen(public, &is_over));
        for nth in 0..POLLS as u64 {
            let polls = &polls;
            scope.spawn(move || {
                let mut cursor = String::new();
                let connect = || HttpClient::connect(public);
                polls.run(Duration::ZERO, connect, |client, _| {
                    let target = format!("/v1/poll?channel=c{nth}&cursor={cursor}");
                    let answer = client.get(&target);
                    assert_eq!(answer.status, 200);
                    cursor = listener::text(answer.text(), "cursor").expect("where it is");
                });
            });
        }
        scope.spawn(|| {
            let connect = || HttpClient::connect(admin);
            publications.run(short, connect, |client, nth| {
                let body = "x".repeat(100 + nth as usize % 2_000);
                publish(client, &format!("c{}", nth % CHANNELS), &body);
            });
        });
        scope.spawn(|| {
            puts.run(
                short,
                || Client::connect(queue),
                |client, nth| {
                    let message = json!({ "stmt": "add", "params": [nth] });
                    assert_eq!(client.ask_json(8001, &message).command, 8001);
                },
            );
        });
        scope.spawn(|| {
            takes.run(
                short,
                || Client::connect(queue),
                |client, _| {
                    let put = json!({ "queue": "img", "items": ["something"] });
                    assert_eq!(client.ask_json(8015, &put).command, 8015);
                    let taken = client.ask_json(8011, &json!({ "queue": "img", "max": 1 })).json();
                    let ids: Vec<Value> = taken["messages"]
                        .as_array()
                        .expect("messages")
                        .iter()
                        .map(|item| item["id"].clone())
                        .collect();
                    assert_eq!(ids.len(), 1, "{taken}");
                    let done = json!({ "queue": "img", "ids": ids });
                    assert_eq!(client.ask_json(8012, &done).command, 8012);
                },
            );
        });
        scope.spawn(|| {
            gets.run(
                short,
                || HttpClient::connect(http),
                |client, _| {
                    client.send(request("GET", "/hello", "")).expect("it reads");
                    assert_eq!(client.answer("GET").text(), "hello");
                },
            );
        });
        let start = Instant::now();
        let mut samples = Vec::new();
        while start.elapsed() < length {
            thread::sleep((length / 400).max(Duration::from_millis(100)));
            if listeners.is_finished() {
                break;
            }
            samples.push(Sample {
                seconds: start.elapsed().as_secs_f64(),
                bytes: server.resident_bytes() as f64,
                descriptors: descriptors(server.process_id()) as f64,
            });
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(listeners.join().expect("those who listen") > 0, "something was published");
        samples
    });
    let count = |load: &Load<'_>| load.done.load(Ordering::Relaxed);
    // It has what it needs after a sixth of the time: ten minutes of an hour.
    let warm = &samples[samples.len() / 6..];
    let [bytes, descriptors]: [f64; 2] =
        [slope(warm, |sample| sample.bytes), slope(warm, |sample| sample.descriptors)];
    let looked_at = length * 5 / 6;
    println!(
        "{} polls, {} publications, {} statements, {} messages, {} requests; {:.1} MiB, {:+.2} MiB in an \
         hour; {} descriptors, {:+.1} in an hour",
        count(&polls),
        count(&publications),
        count(&puts),
        count(&takes),
        count(&gets),
        warm[0].bytes / f64::from(1 << 20),
        bytes * 3600.0 / f64::from(1 << 20),
        warm[0].descriptors,
        descriptors * 3600.0,
    );
    if looked_at >= LONG {
        assert!(bytes * 3600.0 <= GROWN_BYTES_PER_HOUR_MAX, "{} bytes an hour", bytes * 3600.0);
    }
    assert!(bytes * looked_at.as_secs_f64() <= GROWN_BYTES_MAX, "{bytes} bytes a second");
    // As many are there at a time, give or take those that are just coming, and a queue's files.
    assert!((descriptors * looked_at.as_secs_f64()).abs() <= 8.0, "{descriptors} a second");
    let rows = count(&puts);
    eventually("every statement has its row", || {
        (database.number("select count(*) from t") == rows).then_some(())
    });
    assert_eq!(database.number("select count(distinct num) from t"), rows, "each once");
    server.stop();
}
