//! Against a host that answers as each test wants.

mod allocation;
mod golden;
mod host;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use stillwater_types::{Extent, ExtentSet, Reason};
use stillwater_vsphere::HostIdentity;

use self::host::{Deed, GREETING, Host, Identity, Io, PATH, Window, fragment, frame};
use super::{
    Error, NfcReader, NfcWriter, Options, Step, TicketBook, Tickets, Timeouts, Violation,
    host_certificate,
};
use crate::{DiskReader, DiskWriter, read_ahead};

const KIB: u64 = 1024;
const LENGTH: u64 = 1024 * KIB;

fn noise() -> Vec<u8> {
    let mut state = 7u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..LENGTH).map(next).collect()
}

/// Runs of one byte, which compress, of lengths that fit no fragment.
fn runs() -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 1333 % 251) as u8).collect()
}

/// Small requests, so that there are many.
fn options() -> Options {
    Options {
        request_bytes: 64 * 1024,
        in_flight_bytes: 512 * 1024,
        reconnects: 3,
        reconnect_delay: Duration::from_millis(1),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            reply: Duration::from_secs(5),
            close: Duration::from_secs(5),
        },
        ..Options::default()
    }
}

/// For what never comes.
fn impatient() -> Options {
    let soon = Duration::from_millis(200);
    let timeouts = Timeouts {
        handshake: soon,
        reply: soon,
        ..options().timeouts
    };
    Options {
        timeouts,
        reconnects: 0,
        ..options()
    }
}

async fn open(host: &Host, options: Options) -> crate::Result<NfcReader> {
    NfcReader::open(host.desk(), PATH, LENGTH, options).await
}

#[track_caller]
fn cause(error: crate::Error) -> Error {
    match error {
        crate::Error::NfcRead { path, source } | crate::Error::NfcWrite { path, source } => {
            assert_eq!(path, PATH);
            source
        }
        error => panic!("{error:?}"),
    }
}

async fn read_all(reader: NfcReader) -> Vec<u8> {
    let mut content = Vec::new();
    let mut pieces = read_ahead(Arc::new(reader), ExtentSet::whole(LENGTH), 200_000, 4);
    while let Some(piece) = pieces.next().await {
        let (offset, bytes) = piece.expect("a piece");
        assert_eq!(offset, content.len() as u64);
        content.extend(bytes);
    }
    content
}

const WHOLE: Extent = Extent::new(0, LENGTH);

#[tokio::test]
async fn a_disk_reads_as_it_is_however_its_host_cuts_and_orders_fragments() {
    let sizes: [&[u32]; 3] = [&[65536], &[512, 4096, 65536], &[1, 7000, 65535]];
    for sizes in sizes {
        for (shuffle, batch) in [(false, 1), (true, 1), (true, 4)] {
            let host = Host::start(noise(), |script| {
                (script.sizes, script.shuffle, script.batch) = (sizes, shuffle, batch);
            })
            .await;
            let reader = open(&host, options()).await.expect("opens");
            // 16 requests at once: whole batches.
            let read = reader.read(WHOLE).await.expect("reads");
            assert!(read == noise(), "{sizes:?} {shuffle} {batch}");
            assert_eq!(host.requests().len(), 16);
        }
    }
}

#[tokio::test]
async fn compressed_and_plain_fragments_are_put_together() {
    let mut disk = runs();
    disk[..300_000].copy_from_slice(&noise()[..300_000]);
    let host = Host::start(disk.clone(), |script| {
        (script.sizes, script.shuffle) = (&[7000, 65536, 100], true);
    })
    .await;
    let options = Options {
        compression: true,
        ..options()
    };
    let reader = open(&host, options).await.expect("opens");
    assert!(read_all(reader).await == disk);
    assert!(host.requests().iter().all(|io| io.compression == 2));
}

#[tokio::test]
async fn compression_is_asked_for_only_when_wanted() {
    let host = Host::start(runs(), |_| {}).await;
    let reader = open(&host, Options::default()).await.expect("opens");
    assert!(read_all(reader).await == runs());
    assert!(host.requests().iter().all(|io| io.compression == 0));
}

#[tokio::test]
async fn any_range_is_read_exactly_by_whole_sectors() {
    let host = Host::start(noise(), |_| {}).await;
    let reader = open(&host, options()).await.expect("opens");
    let ranges = [
        (0, 1),
        (511, 2),
        (512, 512),
        (1000, 200_001),
        (LENGTH - 3, 3),
    ];
    for (start, length) in ranges {
        let read = reader
            .read(Extent::new(start, length))
            .await
            .expect("reads");
        let expected = &noise()[start as usize..(start + length) as usize];
        assert!(read[..] == *expected, "{start}+{length}");
    }
    let is_whole = |io: &Io| io.offset.is_multiple_of(512) && io.total.is_multiple_of(512);
    assert!(host.requests().iter().all(is_whole));
    assert!(
        reader
            .read(Extent::new(5, 0))
            .await
            .expect("nothing")
            .is_empty()
    );
    for (start, length) in [(0, LENGTH + 1), (LENGTH, 1), (u64::MAX, 2)] {
        let error = reader
            .read(Extent::new(start, length))
            .await
            .expect_err("beyond");
        assert_eq!(error.fault().reason, Reason::RangeBeyondDisk);
    }
}

/// Zeros up to the size of a message.
fn message(body: &[u8]) -> Vec<u8> {
    let mut message = body.to_vec();
    message.resize(264, 0);
    message
}

#[tokio::test]
async fn what_is_said_from_the_first_message_to_the_last_is_what_the_tables_say() {
    let host = Host::start(noise(), |_| {}).await;
    let reader = open(&host, options()).await.expect("opens");
    reader.read(Extent::new(1 << 19, 512)).await.expect("reads");
    drop(reader);
    host.ended(1).await;
    let mut expected = Vec::new();
    expected.extend(message(b"\x2b\0\0\0PlainText"));
    expected.extend(message(&[33]));
    expected.extend(message(&[51, 0, 0, 0, 11]));
    expected.extend(message(&[54, 0, 0, 0, 4, 0, 0, 0, 7]));
    expected.extend(b"vddknbdmode");
    expected.extend(message(&[55, 0, 0, 0, 3]));
    expected.extend(message(&[52]));
    expected.extend(frame(2, 0, &[0; 16]));
    expected.extend(frame(9, 1, &[0; 12]));
    expected.extend(frame(22, 2, &[1, 0, 0, 0]));
    let mut file = [0; 60];
    (file[0], file[16], file[20]) = (PATH.len() as u8, 2, 0x1e);
    expected.extend(frame(4, 3, &file));
    expected.extend(PATH.as_bytes());
    let mut read = [0; 44];
    read[..8].copy_from_slice(&host::HANDLE.to_le_bytes());
    (read[8], read[18]) = (1, 8);
    (read[25], read[33], read[37]) = (2, 2, 2);
    expected.extend(frame(7, 4, &read));
    expected.extend(frame(5, 5, &host::HANDLE.to_le_bytes()));
    expected.extend(frame(3, 6, &[0; 4]));
    expected.extend(message(&[4]));
    assert!(*host.shared.heard.lock().expect("heard") == expected);
}

#[tokio::test]
async fn a_refused_read_fails_alone_and_says_what_the_host_said() {
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(|io| match io.offset {
            0 => Deed::Refuse(5),
            _ => Deed::Serve,
        });
    })
    .await;
    let reader = open(&host, options()).await.expect("opens");
    let error = reader.read(Extent::new(0, 512)).await.expect_err("refused");
    assert_eq!(error.fault().reason, Reason::DiskReadFailed);
    let text = error.chain();
    assert!(text.contains("error 0x05 (payload 05000000)"), "{text}");
    assert!(!cause(error).wants_new_ticket());
    let read = reader.read(Extent::new(512, 512)).await.expect("reads");
    assert!(read[..] == noise()[512..1024]);
}

/// Does one deed with the first requests, on whatever connection, and then serves.
fn at_first(requests: usize, deed: fn() -> Deed) -> impl Fn(&Io) -> Deed + Send + Sync {
    let done = AtomicUsize::new(0);
    move |_| match done.fetch_add(1, Ordering::SeqCst) < requests {
        true => deed(),
        false => Deed::Serve,
    }
}

#[tokio::test]
async fn a_session_that_is_lost_in_mid_read_goes_on_with_a_new_ticket() {
    for deed in [|| Deed::Close, || Deed::CloseWithin] {
        let host = Host::start(noise(), |script| {
            script.sizes = &[1000, 20_000];
            script.act = Arc::new(at_first(2, deed));
        })
        .await;
        let desk = host.desk();
        let reader = NfcReader::open(desk.clone(), PATH, LENGTH, options())
            .await
            .expect("opens");
        assert!(read_all(reader).await == noise());
        // However many requests were in flight, each loss took one ticket.
        assert_eq!(desk.given(), 3);
    }
}

#[tokio::test]
async fn a_session_that_is_always_lost_is_given_up() {
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(|_| Deed::Close);
    })
    .await;
    let desk = host.desk();
    let reader = NfcReader::open(desk.clone(), PATH, LENGTH, options())
        .await
        .expect("opens");
    let error = cause(reader.read(Extent::new(0, 512)).await.expect_err("lost"));
    assert!(matches!(error, Error::Lost(_)), "{error:?}");
    assert!(error.wants_new_ticket() && error.to_string().contains("take a new ticket"));
    assert_eq!(desk.given(), 4);
}

#[tokio::test]
async fn a_host_that_is_gone_is_given_up_for_every_read_at_once() {
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(|_| Deed::Close);
    })
    .await;
    let desk = host.desk();
    let reader = NfcReader::open(desk.clone(), PATH, LENGTH, options())
        .await
        .expect("opens");
    host.change(|script| script.open_error = Some(5));
    let error = cause(reader.read(WHOLE).await.expect_err("lost"));
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    let tickets = desk.given();
    assert_eq!(tickets, 4);
    cause(reader.read(WHOLE).await.expect_err("lost"));
    assert_eq!(desk.given(), tickets);
}

#[tokio::test]
async fn a_host_that_holds_the_disk_for_a_while_is_waited_for() {
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(at_first(1, || Deed::Close));
    })
    .await;
    let reader = open(&host, options()).await.expect("opens");
    host.change(|script| script.open_error = Some(5));
    let (read, ()) = tokio::join!(reader.read(WHOLE), async {
        // Until the first attempt was refused.
        while host.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        host.change(|script| script.open_error = None);
    });
    assert!(read.expect("reads") == noise());
}

#[tokio::test]
async fn a_host_that_says_nothing_more_is_given_up() {
    let deeds: [fn() -> Deed; 2] = [|| Deed::Ignore, || Deed::LeaveOut];
    for deed in deeds {
        let host = Host::start(noise(), |script| {
            script.sizes = &[1000];
            script.act = Arc::new(move |_| deed());
        })
        .await;
        let reader = open(&host, impatient()).await.expect("opens");
        let error = cause(reader.read(WHOLE).await.expect_err("silence"));
        let step = Step::Reply;
        assert!(
            matches!(&error, Error::TimedOut { step: found, .. } if *found == step),
            "{error:?}"
        );
        assert!(error.wants_new_ticket());
    }
}

/// What the client makes of an answer that is not right. The read is of 4 sectors at sector 8.
async fn broken_by(answer: impl Fn(&Io) -> Vec<u8> + Send + Sync + 'static) -> Violation {
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(move |io| Deed::Say(answer(io)));
    })
    .await;
    let desk = host.desk();
    let reader = NfcReader::open(desk.clone(), PATH, LENGTH, options())
        .await
        .expect("opens");
    let error = reader
        .read(Extent::new(4096, 2048))
        .await
        .expect_err("broken");
    assert_eq!(error.fault().reason, Reason::DiskReadFailed);
    // Nothing is believed any more, and no other ticket helps.
    let next = reader.read(Extent::new(0, 512)).await.expect_err("broken");
    assert!(matches!(cause(next), Error::Protocol(_)));
    assert_eq!(desk.given(), 1);
    match cause(error) {
        Error::Protocol(violation) => violation,
        error => panic!("{error:?}"),
    }
}

fn part(io: &Io, at: u32, bytes: usize) -> Vec<u8> {
    fragment(io, at, bytes as u32, 0, &vec![7; bytes])
}

#[tokio::test]
async fn an_answer_that_is_not_exactly_what_was_asked_for_is_an_error() {
    let twice = broken_by(|io| [part(io, 512, 512), part(io, 512, 512)].concat());
    let expected = Violation::Overlap {
        at: 512,
        plain: 512,
    };
    assert_eq!(twice.await, expected);
    let over = broken_by(|io| [part(io, 0, 513), part(io, 512, 512)].concat());
    assert_eq!(over.await, expected);
    let elsewhere = Violation::Offset {
        asked: 4096,
        found: 8192,
    };
    let other = |io: &Io| {
        part(
            &Io {
                offset: 8192,
                ..*io
            },
            0,
            512,
        )
    };
    assert_eq!(broken_by(other).await, elsewhere);
    let total = Violation::Total {
        asked: 2048,
        found: 1024,
    };
    let other = |io: &Io| part(&Io { total: 1024, ..*io }, 0, 1024);
    assert_eq!(broken_by(other).await, total);
    let beyond = broken_by(|io| part(io, 2048, 512)).await;
    assert!(matches!(beyond, Violation::FragmentSize { at: 2048, .. }));
    let unasked = |io: &Io| {
        part(
            &Io {
                operation: 77,
                ..*io
            },
            0,
            512,
        )
    };
    assert_eq!(broken_by(unasked).await, Violation::UnknownOperation(77));
    let again = |io: &Io| [part(io, 0, 2048), part(io, 0, 512)].concat();
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(move |io| Deed::Say(again(io)));
    })
    .await;
    // The first answer is whole; what comes behind it is to nothing.
    let reader = open(&host, options()).await.expect("opens");
    let read = reader.read(Extent::new(4096, 2048)).await.expect("whole");
    assert!(read[..] == [7; 2048]);
    let error = cause(
        reader
            .read(Extent::new(4096, 2048))
            .await
            .expect_err("broken"),
    );
    assert!(matches!(
        error,
        Error::Protocol(Violation::UnknownOperation(4))
    ));
}

#[tokio::test]
async fn frames_that_are_none_are_errors() {
    let handle = |io: &Io| {
        let mut bytes = part(io, 0, 512);
        bytes[16] = 9;
        bytes
    };
    assert_eq!(broken_by(handle).await, Violation::Handle(9));
    let opcode = |io: &Io| {
        let mut bytes = part(io, 0, 512);
        bytes[24] = 0;
        bytes
    };
    assert_eq!(broken_by(opcode).await, Violation::Opcode(0));
    let magic = broken_by(|_| b"HTTP/1.1 400 Bad".to_vec()).await;
    assert_eq!(magic, Violation::Magic(u32::from_le_bytes(*b"HTTP")));
    let kind = broken_by(|io| frame(13, io.operation, &[0; 44])).await;
    assert_eq!(kind, Violation::Type(13));
    let size = broken_by(|io| frame(7, io.operation, &[0; 48])).await;
    assert_eq!(size, Violation::PayloadSize { kind: 7, bytes: 48 });
    let size = broken_by(|io| frame(7, io.operation, &[0; 2000])).await;
    assert_eq!(
        size,
        Violation::PayloadSize {
            kind: 7,
            bytes: 2000
        }
    );
    let reply = broken_by(|io| frame(5, io.operation, &[0; 8])).await;
    let (operation, found) = (4, 5);
    assert_eq!(reply, Violation::WrongReply { operation, found });
    let packed = broken_by(|io| fragment(io, 0, 2048, 2, &[0, 7, 0xe0, 0xff, 0])).await;
    assert!(matches!(packed, Violation::FastLz(_)));
    let huge = broken_by(|io| {
        let mut bytes = part(io, 0, 512);
        bytes[16 + 36..16 + 40].fill(0xff);
        bytes
    });
    assert!(matches!(
        huge.await,
        Violation::FragmentSize {
            extra: u32::MAX,
            ..
        }
    ));
}

#[tokio::test]
async fn a_host_is_known_by_its_certificate_alone() {
    let host = Host::start(noise(), |_| {}).await;
    let (ours, other) = (&host.shared.first, Identity::new());
    let whole = |identity: &Identity| host_certificate(identity.pem().as_bytes()).expect("pem");
    let trusts = |identity: HostIdentity| {
        let desk = host.desk_with(move |ticket| ticket.identity = identity.clone());
        NfcReader::open(desk, PATH, LENGTH, options())
    };
    assert!(trusts(ours.sha1()).await.is_ok());
    assert!(trusts(whole(ours)).await.is_ok());
    for identity in [other.sha1(), whole(&other)] {
        let error = trusts(identity).await.expect_err("another host");
        assert_eq!(error.fault().reason, Reason::CertificateUntrusted);
        assert!(matches!(cause(error), Error::Untrusted { .. }));
    }
    let error = host_certificate(b"no pem").expect_err("no pem");
    assert!(matches!(error, Error::BadTicket { .. }));
}

#[tokio::test]
async fn tickets_that_were_taken_in_advance_are_used_one_by_one() {
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(at_first(2, || Deed::Close));
    })
    .await;
    let desk = host.desk();
    let (first, second) = (desk.ticket().await, desk.ticket().await);
    let book = TicketBook::new([first.expect("a ticket"), second.expect("a ticket")]);
    let reader = NfcReader::open(Arc::new(book), PATH, LENGTH, options()).await;
    let error = reader
        .expect("opens")
        .read(WHOLE)
        .await
        .expect_err("used up");
    assert_eq!(error.fault().reason, Reason::DiskReadFailed);
    assert!(matches!(cause(error), Error::NoTicket(_)));
}

#[tokio::test]
async fn the_second_certificate_is_the_host_s_or_the_one_it_announced() {
    let second = Identity::new();
    let announced = Host::with(noise(), Some(second), |_| {}).await;
    assert!(open(&announced, options()).await.is_ok());
    for thumbprint in [Identity::new().sha256(), "none".to_owned()] {
        let host = Host::with(noise(), Some(Identity::new()), |script| {
            script.thumbprint = Some(thumbprint);
        })
        .await;
        let error = cause(open(&host, options()).await.expect_err("somebody else"));
        assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn hosts_with_old_and_new_tls_are_spoken_to_whether_they_say_goodbye_or_not() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for says_goodbye in [false, true] {
            let host = Host::start(noise(), |script| {
                (script.versions, script.says_goodbye) = (vec![version], says_goodbye);
            })
            .await;
            let reader = open(&host, options()).await.expect("opens");
            assert!(read_all(reader).await == noise());
        }
    }
}

#[tokio::test]
async fn a_ticket_is_taken_once() {
    let host = Host::start(noise(), |_| {}).await;
    let desk = host.desk_with(|ticket| ticket.session_id = "52c0ffee-1".to_owned().into());
    let _first = NfcReader::open(desk.clone(), PATH, LENGTH, options())
        .await
        .expect("opens");
    let again = NfcReader::open(desk.clone(), PATH, LENGTH, options()).await;
    let error = cause(again.expect_err("used"));
    assert!(
        matches!(
            error,
            Error::TicketRefused {
                command: "BANNER",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.wants_new_ticket() && !format!("{error:?}").contains("c0ffee"));
    // One for the first, and a bounded number for the second.
    assert_eq!(desk.given(), 1 + 3);
}

#[tokio::test]
async fn disks_are_never_moved_in_the_clear() {
    let greeting = Host::start(noise(), |script| {
        script.greeting = "220 VMware Authentication Daemon: SSL Required\r\n".into();
    })
    .await;
    let connect = Host::start(noise(), |script| {
        script.connect = "200 Connect ha-nfc\r\n";
    })
    .await;
    for host in [greeting, connect] {
        let error = open(&host, options()).await.expect_err("plain");
        assert_eq!(error.fault().reason, Reason::NotSupported);
        assert!(matches!(cause(error), Error::PlainOnly { .. }));
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_used_is_named_with_its_reason() {
    let host = Host::start(noise(), |script| script.nfc_version = 10).await;
    let error = open(&host, options()).await.expect_err("old");
    assert_eq!(error.fault().reason, Reason::NotSupported);
    let host = Host::start(noise(), |script| script.greeting = "421 busy\r\n".into()).await;
    let error = cause(open(&host, options()).await.expect_err("busy"));
    assert!(matches!(error, Error::NotReady { .. }), "{error:?}");
    let host = Host::start(noise(), |script| script.greeting = "220 ".repeat(999)).await;
    let error = cause(open(&host, options()).await.expect_err("endless"));
    assert!(
        matches!(error, Error::Protocol(Violation::Line)),
        "{error:?}"
    );
    let host = Host::start(noise(), |script| script.capacity = LENGTH + 512).await;
    let error = cause(open(&host, options()).await.expect_err("another size"));
    assert!(
        matches!(error, Error::WrongLength { found, .. } if found == LENGTH + 512),
        "{error:?}"
    );
    let host = Host::start(noise(), |script| script.open_error = Some(11)).await;
    let writer = NfcWriter::open(host.desk(), PATH, LENGTH, options()).await;
    let error = writer.expect_err("a ticket for reading");
    assert_eq!(error.fault().reason, Reason::DiskWriteFailed);
    assert!(
        error.chain().contains("for reading only"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn a_host_that_is_silent_at_any_step_is_named_with_the_step() {
    let mute = Host::start(noise(), |script| script.mute = Some(22)).await;
    let greeting = Host::start(noise(), |script| script.greeting.clear()).await;
    for (host, step) in [(mute, Step::Open), (greeting, Step::Greeting)] {
        let error = cause(open(&host, impatient()).await.expect_err("silence"));
        assert!(
            matches!(&error, Error::TimedOut { step: found, .. } if *found == step),
            "{error:?}"
        );
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let host = Host::start(noise(), |_| {}).await;
    let desk = host.desk_with(move |ticket| ticket.port = port);
    let opened = NfcReader::open(desk.clone(), PATH, LENGTH, options()).await;
    assert!(matches!(
        cause(opened.expect_err("nobody")),
        Error::Connect { .. }
    ));
    assert_eq!(desk.given(), 1);
}

#[tokio::test]
async fn requests_in_flight_are_bounded_by_bytes() {
    let (unanswered, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&unanswered), Arc::clone(&most));
    let host = Host::start(noise(), |script| {
        script.act = Arc::new(move |_| {
            let now = count.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(now, Ordering::SeqCst);
            Deed::Ignore
        });
    })
    .await;
    let reader = open(&host, impatient()).await.expect("opens");
    // 16 requests of 64 KiB, of which 8 fit; none is answered, so no more may come.
    cause(reader.read(WHOLE).await.expect_err("silence"));
    assert_eq!(most.load(Ordering::SeqCst), 8);
}

/// A host that answers one request for each that comes, and only while eight are unanswered: whoever
/// has fewer in flight at any time waits for ever, however short or long a round trip is.
async fn host_of_eight() -> Host {
    Host::start(noise(), |script| {
        let (depth, total) = (8, 16);
        script.window = Some(Window { depth, total });
    })
    .await
}

#[tokio::test]
async fn as_many_requests_as_may_be_are_in_flight_from_the_first_to_the_last() {
    let host = host_of_eight().await;
    let reader = open(&host, options()).await.expect("opens");
    assert!(reader.read(WHOLE).await.expect("reads") == noise());
    // As a proxy reads: eight reads at a time, each of them one request.
    let host = host_of_eight().await;
    let reader = Arc::new(open(&host, options()).await.expect("opens"));
    let mut pieces = read_ahead(reader, ExtentSet::whole(LENGTH), 64 * 1024, 8);
    let mut content = Vec::new();
    while let Some(piece) = pieces.next().await {
        content.extend(piece.expect("a piece").1);
    }
    assert!(content == noise());
    let host = host_of_eight().await;
    let writer = NfcWriter::open(host.desk(), PATH, LENGTH, options()).await;
    let mut writer = Box::new(writer.expect("opens"));
    writer.write(0, noise().into()).await.expect("writes");
    writer.finish().await.expect("finishes");
    assert_eq!(host.requests().len(), 16);
}

#[tokio::test]
async fn a_reader_that_stops_waiting_disturbs_nobody() {
    let host = Host::start(noise(), |script| script.batch = 2).await;
    let reader = open(&host, options()).await.expect("opens");
    // The first is sent, not answered, and forgotten; the second makes the batch full.
    let mut first = Box::pin(reader.read(Extent::new(0, 512)));
    tokio::select! {
        read = &mut first => panic!("{read:?}"),
        () = async {
            while host.requests().is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    drop(first);
    let read = reader.read(Extent::new(4096, 512)).await.expect("reads");
    assert!(read[..] == noise()[4096..4608]);
}

#[tokio::test]
async fn a_reader_closes_its_disk_at_its_end() {
    let host = Host::start(noise(), |_| {}).await;
    let reader = open(&host, options()).await.expect("opens");
    reader.close().await.expect("closes");
    host.ended(1).await;
    let heard = host.shared.heard.lock().expect("heard").clone();
    let file = frame(5, 4, &host::HANDLE.to_le_bytes());
    let end = [file, frame(3, 5, &[0; 4]), message(&[4])].concat();
    assert!(heard.ends_with(&end));
    let before = &heard[..heard.len() - end.len()];
    assert!(before.ends_with(PATH.as_bytes()), "closed once");
}

/// Writes of any size and place, and what becomes of an empty disk by them.
fn writes() -> (Vec<(u64, Bytes)>, Vec<u8>) {
    let mut disk = vec![0; LENGTH as usize];
    let places = [
        (512, 200_000),
        (201_000, 10),
        (201_010, 5),
        (300 * KIB, 500_000),
        (LENGTH - 700, 7),
    ];
    let write = |(at, length): (u64, usize)| {
        let bytes = noise()[..length].to_vec();
        disk[at as usize..at as usize + length].copy_from_slice(&bytes);
        (at, Bytes::from(bytes))
    };
    (places.into_iter().map(write).collect(), disk)
}

async fn write_all(host: &Host, options: Options) -> crate::Result<()> {
    let writer = NfcWriter::open(host.desk(), PATH, LENGTH, options).await?;
    let mut writer = Box::new(writer);
    for (at, bytes) in writes().0 {
        writer.write(at, bytes).await?;
    }
    writer.finish().await
}

#[tokio::test]
async fn a_written_disk_is_what_was_written_and_holes_are_not_sent() {
    let host = Host::start(vec![0; LENGTH as usize], |_| {}).await;
    let options = Options {
        request_bytes: 256 * 1024,
        ..options()
    };
    write_all(&host, options).await.expect("writes");
    assert!(host.disk() == writes().1);
    let sent: u64 = host.requests().iter().map(|io| u64::from(io.length)).sum();
    assert!(sent < 710_000, "{sent}");
    for io in host.requests() {
        assert!(io.is_write && io.compression == 0 && io.length <= 65536);
        assert!(io.offset.is_multiple_of(512) && io.length.is_multiple_of(512));
    }
    // 500000 bytes in two writes, in fragments that have one operation for each write.
    let long: Vec<_> = host
        .requests()
        .into_iter()
        .filter(|io| io.offset == 300 * KIB)
        .collect();
    assert_eq!(
        long.iter().map(|io| io.at).collect::<Vec<_>>(),
        [0, 65536, 131_072, 196_608]
    );
    assert!(
        long.iter()
            .all(|io| io.operation == long[0].operation && io.total == 262_144)
    );
    host.ended(1).await;
}

#[tokio::test]
async fn writes_that_were_not_confirmed_are_sent_again_with_a_new_ticket() {
    let host = Host::start(vec![0; LENGTH as usize], |script| {
        script.act = Arc::new(|io| match io.nth {
            1 | 7 => Deed::Close,
            _ => Deed::Serve,
        });
    })
    .await;
    write_all(&host, options()).await.expect("writes");
    assert!(host.disk() == writes().1);
}

#[tokio::test]
async fn a_disk_is_not_written_until_every_reply_has_come() {
    let refused = Host::start(vec![0; LENGTH as usize], |script| {
        script.act = Arc::new(|io| match io.offset {
            offset if offset > 700_000 => Deed::Refuse(3),
            _ => Deed::Serve,
        });
    })
    .await;
    let silent = Host::start(vec![0; LENGTH as usize], |script| {
        script.act = Arc::new(|io| match io.offset {
            offset if offset > 700_000 => Deed::Ignore,
            _ => Deed::Serve,
        });
    })
    .await;
    let mute = Host::start(vec![0; LENGTH as usize], |script| script.mute = Some(5)).await;
    let wrong = Host::start(vec![0; LENGTH as usize], |script| {
        script.act = Arc::new(|io| Deed::Say(frame(7, io.operation, &[1; 44])));
    })
    .await;
    for (host, words) in [
        (refused, "refused to write"),
        (silent, "took too long"),
        (mute, "took too long"),
        (wrong, "does not keep to the protocol"),
    ] {
        let error = write_all(&host, impatient()).await.expect_err(words);
        assert_eq!(error.fault().reason, Reason::DiskWriteFailed);
        assert!(error.chain().contains(words), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_writer_takes_nothing_that_lies_before_or_beyond() {
    let host = Host::start(vec![0; LENGTH as usize], |_| {}).await;
    let writer = NfcWriter::open(host.desk(), PATH, LENGTH, options()).await;
    let mut writer = writer.expect("opens");
    writer
        .write(1000, Bytes::from_static(b"abc"))
        .await
        .expect("writes");
    let before = writer.write(1002, Bytes::from_static(b"d")).await;
    assert!(matches!(
        before,
        Err(crate::Error::NotAscending { position: 1003, .. })
    ));
    let beyond = writer.write(LENGTH - 1, Bytes::from_static(b"de")).await;
    assert!(matches!(beyond, Err(crate::Error::BeyondDisk { .. })));
    Box::new(writer).abort().await.expect("gives up");
    assert!(host.disk().iter().all(|byte| *byte == 0));
}

#[test]
fn options_are_kept_within_what_hosts_bear() {
    let all = Options {
        request_bytes: u32::MAX,
        in_flight_bytes: u32::MAX,
        ..Options::default()
    };
    let all = all.bounded();
    assert_eq!(
        (all.request_bytes, all.in_flight_bytes),
        (2 << 20, 16_000_000)
    );
    let none = Options {
        request_bytes: 0,
        in_flight_bytes: 0,
        ..Options::default()
    };
    let none = none.bounded();
    assert_eq!((none.request_bytes, none.in_flight_bytes), (4096, 65536));
}

#[tokio::test]
async fn what_no_host_may_hear_is_not_sent() {
    let host = Host::start(noise(), |_| {}).await;
    for path in ["web.vmdk", "[ds 1] ../web.vmdk"] {
        let opened = NfcReader::open(host.desk(), path, LENGTH, options()).await;
        assert!(matches!(opened, Err(crate::Error::BadPath { .. })));
    }
    let desk = host.desk_with(|ticket| ticket.session_id = "a\r\nPROXY x".to_owned().into());
    let opened = NfcReader::open(desk, PATH, LENGTH, options()).await;
    assert!(matches!(
        cause(opened.expect_err("two lines")),
        Error::BadTicket { .. }
    ));
    let desk = host.desk_with(|ticket| ticket.service = "vpxa nfc".into());
    let opened = NfcReader::open(desk, PATH, LENGTH, options()).await;
    assert!(matches!(
        cause(opened.expect_err("two words")),
        Error::BadTicket { .. }
    ));
    assert!(GREETING.len() < super::authd::LINE_BYTES_MAX);
}
