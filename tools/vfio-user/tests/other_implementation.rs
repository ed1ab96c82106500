//! Our client against the server of the `vfio_user` crate, and its client against our server. Its known defects
//! (`ecosystem.md` §2, U1 to U5) are kept away from: it takes one file per message, ignores refusals, and inverts
//! "resettable".
//!
//! | property | test |
//! |---|---|
//! | another implementation's client reads, writes, maps, sets interrupts and resets our device | `their_client_uses_our_server` |
//! | our client does the same with another implementation's server | `our_client_uses_their_server` |

mod support;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use support::{BAR, Serving, VECTORS, count, eventfd};
use vfio_user::Client;
use vfio_user::message::{SetIrqs, region};

#[test]
fn their_client_uses_our_server() {
    let serving = Serving::start();
    let mut client = theirs::Client::new(&serving.path).expect("connected");
    assert_eq!(client.region(region::BAR0).map(|region| region.size), Some(BAR));
    assert_eq!(client.region(region::CONFIG).map(|region| region.size), Some(4096));
    assert_eq!(client.get_irq_info(2).expect("info").count, VECTORS);
    client.region_write(region::BAR0, 0x20, &[5, 6, 7, 8]).expect("inside");
    let mut read = [0; 4];
    client.region_read(region::BAR0, 0x20, &mut read).expect("inside");
    assert_eq!(read, [5, 6, 7, 8]);
    let file = File::open("/dev/zero").expect("a file");
    client.dma_map(0x1000, 0x2_0000_0000, 0x20_0000, file.as_raw_fd()).expect("lent");
    client.dma_unmap(0x2_0000_0000, 0x20_0000).expect("taken back");
    let fd = eventfd();
    let flags = SetIrqs::ACTION_TRIGGER | SetIrqs::DATA_EVENTFD;
    client.set_irqs(2, flags, 3, 1, &[fd.as_raw_fd()]).expect("set");
    serving.device.raise(3);
    assert_eq!(count(&fd), 1);
    client.reset().expect("reset");
    client.shutdown().expect("closed");
    serving.ends(1);
    let seen = serving.device.seen();
    assert_eq!((seen.maps.len(), seen.maps[0].iova, seen.maps[0].offset), (1, 0x2_0000_0000, 0x1000));
    assert_eq!((seen.unmaps.len(), seen.resets), (1, 1));
}

/// What their server was asked.
#[derive(Debug, PartialEq)]
enum Asked {
    Write(u64, Vec<u8>),
    Map(u64, u64, u64, bool),
    Unmap(u64, u64),
    Irqs(u32, u32, u32, usize),
    Reset,
}

struct Backend(Sender<Asked>);

impl Backend {
    fn told(&self, asked: Asked) -> Result<(), std::io::Error> {
        self.0.send(asked).map_err(std::io::Error::other)
    }
}

impl theirs::ServerBackend for Backend {
    fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), std::io::Error> {
        data.fill(offset as u8);
        Ok(())
    }
    fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.told(Asked::Write(offset, data.to_vec()))
    }
    fn dma_map(
        &mut self,
        _: theirs::DmaMapFlags,
        offset: u64,
        iova: u64,
        len: u64,
        fd: Option<File>,
    ) -> Result<(), std::io::Error> {
        self.told(Asked::Map(iova, len, offset, fd.is_some()))
    }
    fn dma_unmap(&mut self, _: theirs::DmaUnmapFlags, iova: u64, len: u64) -> Result<(), std::io::Error> {
        self.told(Asked::Unmap(iova, len))
    }
    fn reset(&mut self) -> Result<(), std::io::Error> {
        self.told(Asked::Reset)
    }
    fn set_irqs(&mut self, index: u32, _: u32, start: u32, count: u32, fds: Vec<File>) -> Result<(), std::io::Error> {
        self.told(Asked::Irqs(index, start, count, fds.len()))
    }
}

#[test]
fn our_client_uses_their_server() {
    let path = support::path();
    let irqs = (0..5).map(|index| theirs::IrqInfo { index, flags: 1, count: if index == 2 { 4 } else { 0 } }).collect();
    let regions = (0..9).map(|index| {
        let mut region =
            theirs::ServerRegion { region_info: Default::default(), sparse_areas: Vec::new(), mmap_fd: None };
        region.region_info.argsz = 32;
        region.region_info.index = index;
        region.region_info.flags = 3;
        region.region_info.size = if index == region::BAR0 { 0x1000 } else { 0 };
        region
    });
    let server = theirs::Server::new(&path, true, irqs, regions.collect()).expect("listens");
    let (sender, asked) = channel();
    let thread = std::thread::spawn(move || server.run(&mut Backend(sender)));
    let mut client = Client::connect(&path, Duration::from_secs(5)).expect("connected");
    assert_eq!(client.limits().fds, 1, "what it says");
    assert!(client.device_info().expect("info").resettable);
    assert_eq!(client.region_size(region::BAR0).expect("size"), 0x1000);
    assert_eq!(client.irq_count(2).expect("count"), 4);
    let mut read = [0; 8];
    client.read(region::BAR0, 0x18, &mut read).expect("inside");
    assert_eq!(read, [0x18; 8]);
    client.write(region::BAR0, 8, &[1, 2, 3, 4]).expect("inside");
    client.post(region::BAR0, 16, &[5; 8]).expect("posted");
    let file = File::open("/dev/zero").expect("a file");
    client.map(0x1_0000_0000, 0x1000, file.as_fd(), 0x2000).expect("lent");
    client.unmap(0x1_0000_0000, 0x1000).expect("taken back");
    let fds = [eventfd(), eventfd()];
    client.set_irqs(2, 1, &[fds[0].as_fd(), fds[1].as_fd()]).expect("one message each");
    client.reset().expect("reset");
    drop(client);
    assert!(thread.join().is_ok());
    let expected = [
        Asked::Write(8, vec![1, 2, 3, 4]),
        Asked::Write(16, vec![5; 8]),
        Asked::Map(0x1_0000_0000, 0x1000, 0x2000, true),
        Asked::Unmap(0x1_0000_0000, 0x1000),
        Asked::Irqs(2, 1, 1, 1),
        Asked::Irqs(2, 2, 1, 1),
        Asked::Reset,
    ];
    assert_eq!(asked.iter().collect::<Vec<_>>(), expected);
}
