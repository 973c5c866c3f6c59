//! Serving one disk of a point to an administrator's machine.
//!
//! The run is succeeded only when the proxy says that a reader got the disk to its end. A run whose
//! time is over without that is failed, even if nobody ever meant to read: the run promised a copy,
//! and there is none.

use std::collections::BTreeSet;

use stillwater_controller_api::{ExportAccess, Ticket as ApiTicket};
use stillwater_proxy_api::{OpenExportRequest, OpenExportResponse, Ticket};
use stillwater_rpc::grant::Verb;
use stillwater_types::{ExportId, Fault, Reason};
use tokio::time::Instant;

use super::{Act, Came, missing};
use crate::run::event::{RunEvent, Work};
use crate::run::slots::Permit;

impl Act {
    pub(super) async fn intend_export(&self) -> Came {
        let way = self.way(None);
        let held: Option<Permit> = self.scratch.notes().free_permits.pop();
        let permit = match held {
            Some(permit) => permit,
            None => {
                self.world
                    .slots
                    .wait(&BTreeSet::new(), &way, self.world.timing.slot_wait)
                    .await?
            }
        };
        let mut ticket = [0; 32];
        getrandom::fill(&mut ticket)
            .map_err(|error| Fault::new(Reason::Bug, format!("draw a ticket: {error}")))?;
        let (export, proxy) = (ExportId::mint(), permit.proxy.node);
        let mut notes = self.scratch.notes();
        notes.export = Some(ExportAccess {
            export_id: export,
            proxy_node_id: proxy,
            address: permit.proxy.address.clone(),
            ticket: ApiTicket::new(ticket),
        });
        notes.free_permits.clear();
        notes.permits.insert(self.export_disk()?, permit);
        Ok(vec![RunEvent::ExportIntended { export, proxy }])
    }

    pub(super) async fn open_export(&self) -> Came {
        self.keep_export_open().await?;
        self.scratch.notes().is_export_open = true;
        Ok(vec![RunEvent::ExportOpened])
    }

    /// Keeps the export open until it was read, nobody has read it for long, or the run is told to
    /// stop.
    pub(super) async fn serve_export(&self) -> Came {
        let mut until = Instant::now() + self.world.timing.export;
        while Instant::now() < until {
            let pause = tokio::time::sleep(self.world.timing.export_poll);
            if self.halt.run_until_cancelled(pause).await.is_none() {
                return Ok(Vec::new());
            }
            let told = self.keep_export_open().await?;
            if told.completed {
                return Ok(vec![RunEvent::ExportRead]);
            }
            if told.reading {
                // A large disk takes its reader many hours.
                until = Instant::now() + self.world.timing.export;
            }
        }
        Err(Fault::new(
            Reason::Deadline,
            "nobody read the export to its end in time; start it again",
        ))
    }

    /// Opening is idempotent: it also heals a proxy that was restarted, and tells whether the disk
    /// was read.
    async fn keep_export_open(&self) -> Result<OpenExportResponse, Fault> {
        let held = self.run.export.ok_or_else(|| missing("export"))?;
        let access = self
            .scratch
            .notes()
            .export
            .clone()
            .ok_or_else(|| missing("export"))?;
        let request = OpenExportRequest {
            export_id: held.export,
            store: self.store(held.proxy, [Verb::Read])?,
            root: self.stored_root(self.export_disk()?)?,
            ticket: Ticket::new(*access.ticket.expose()),
        };
        self.repeat(&self.world.timing.follow, || async {
            self.world
                .proxies
                .open_export(held.proxy, request.clone())
                .await
        })
        .await
    }

    fn export_disk(&self) -> Result<i32, Fault> {
        match &self.run.work {
            Work::ExportDisk(work) => Ok(work.disk),
            _ => Err(missing("export")),
        }
    }
}
