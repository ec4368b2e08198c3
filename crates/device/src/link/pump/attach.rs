//! Which devices and epochs a connection speaks for.

use std::sync::Arc;
use std::time::Duration;

use icecore_wire::{Attached, Epoch, Refuse};
use tokio::time::Instant;

use super::{Ended, Pump};
use crate::channel::Channel;
use crate::event::{Disconnect, Event};
use crate::spool::outbox::Outbox;
use crate::spool::queue::{Attachment, EpochQueue};

/// When a refused device is tried again if the server does not say: an operator may have granted it by then.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

impl Pump<'_> {
    /// Asks to attach the epochs that are not and should be: those that have something left to say, and the present one
    /// in any case if the connection is kept.
    pub(super) fn attach(&mut self, channel: &Arc<Channel>, outbox: &mut Outbox, now: Instant) {
        for queue in outbox.queues_mut() {
            let may = match queue.attachment {
                Attachment::Detached => true,
                Attachment::Refused(until) => until <= now.into_std(),
                Attachment::Asked | Attachment::Early(_) | Attachment::Attached(_) => false,
            };
            let is_current = queue.epoch == channel.epoch;
            let idles_attached = is_current && (self.link.config.on_demand.is_none() || channel.is_asking());
            if !may || queue.is_done() && !idles_attached {
                continue;
            }
            if self.aliases.len() >= self.max_aliases && (queue.is_quiet() || !self.evict_idle(channel)) {
                let waits = self.crowded_out.iter().any(|waiting| Arc::ptr_eq(waiting, channel));
                if !queue.is_quiet() && !waits {
                    self.crowded_out.push(Arc::clone(channel));
                }
                continue;
            }
            let alias = self.session.attach(channel.name.clone(), queue.epoch);
            self.aliases.insert(alias, (Arc::clone(channel), queue.epoch));
            queue.asked(alias, is_current);
        }
    }

    /// A refusal of an earlier connection still holds for its time.
    pub(super) fn look_again_at_refused(&mut self, channel: &Arc<Channel>) {
        let mut refused = Vec::new();
        for queue in channel.outbox().queues() {
            if let Attachment::Refused(until) = queue.attachment {
                refused.push(until);
            }
        }
        for until in refused {
            self.look_again(until.into(), Arc::clone(channel));
        }
    }

    /// Detaches a device that has nothing to send, to make room for `channel`, whose outbox is locked.
    fn evict_idle(&mut self, channel: &Arc<Channel>) -> bool {
        let others = self.aliases.iter().filter(|(_, (other, _))| !Arc::ptr_eq(other, channel));
        let evicted = others.map(|(alias, (other, epoch))| (*alias, other, *epoch)).find_map(
            |(alias, other, epoch)| {
                let mut outbox = other.outbox();
                let queue = outbox.queue(epoch).filter(|queue| queue.is_quiet())?;
                queue.attachment = Attachment::Detached;
                Some(alias)
            },
        );
        let Some(alias) = evicted else { return false };
        self.session.detach(alias);
        self.aliases.remove(&alias);
        true
    }

    /// Detaches a closed device.
    pub(super) fn let_go(&mut self, outbox: &mut Outbox) {
        for queue in outbox.queues() {
            if let Some(alias) = queue.attachment.alias() {
                self.session.detach(alias);
                self.aliases.remove(&alias);
            }
        }
        outbox.rewind();
    }

    pub(super) fn attached(&mut self, attached: &Attached) {
        let Some((channel, epoch)) = self.aliases.get(&attached.alias).cloned() else { return };
        let now = Instant::now().into_std();
        channel.update(|outbox, report| {
            outbox.attached(epoch, attached, now, report);
        });
        self.after_ack(attached.alias, &channel, epoch);
        channel.signal();
    }

    /// Lets go of an old epoch that has nothing left to say, and of idle devices if others wait for an alias.
    pub(super) fn after_ack(&mut self, alias: u32, channel: &Arc<Channel>, epoch: Epoch) {
        let crowded = !self.crowded_out.is_empty();
        if epoch == channel.epoch && !crowded {
            return;
        }
        let mut outbox = channel.outbox();
        let idle = |queue: &EpochQueue| if crowded { queue.is_quiet() } else { queue.is_done() };
        let Some(queue) = outbox.queue(epoch).filter(|queue| idle(queue)) else { return };
        queue.attachment = Attachment::Detached;
        outbox.retire(epoch);
        self.session.detach(alias);
        self.aliases.remove(&alias);
        drop(outbox);
        if let Some(waiting) = self.crowded_out.pop() {
            waiting.signal();
        }
    }

    pub(super) fn refused(&mut self, refuse: Refuse) -> Result<(), Ended> {
        let retry_after = refuse.retry_after.unwrap_or(REFUSED_RETRY);
        let attachment = refuse.alias.map(|alias| self.aliases.remove(&alias));
        let device = attachment.iter().flatten().map(|(channel, _)| channel.name.clone()).next();
        let (code, message) = (refuse.code, refuse.message);
        let whom = device.as_ref().map_or_else(|| "the connection".to_owned(), ToString::to_string);
        self.link.set_error(format!("{whom} was refused: {message} ({})", code.name()));
        self.link.watchers.event(Event::Refused { device, code, message: message.clone(), retry_after });
        match attachment {
            None => {
                Err(Ended { reason: Disconnect::Refused { code, message }, retry_after: Some(retry_after) })
            }
            Some(None) => Ok(()),
            Some(Some((channel, epoch))) => {
                let until = Instant::now() + retry_after;
                channel.update(|outbox, _| outbox.refused(epoch, until.into_std()));
                self.look_again(until, channel);
                Ok(())
            }
        }
    }
}
