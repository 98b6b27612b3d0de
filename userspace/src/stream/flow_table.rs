//! The connections that are known, and the way of a segment through them.
//!
//! Reads no clock: time comes with segments, and with [`FlowTable::tick`].

use std::collections::{HashMap, VecDeque};

use crate::model::{
    Direction, Flow, FlowKey, Interest, Opened, Segment, StreamEvent, StreamReader, TcpFlags, Timestamp,
    Unused,
};

use super::assembler::GapCause;
use super::entry::{Entry, Half, Hearing, Shared, State};
use super::recency::Recency;
use super::rival::{self, Contest};
use super::undecided::Undecided;
use super::{StreamLimits, StreamTally};

/// All flows, with whatever `R` their reader keeps for each.
#[derive(Debug)]
pub struct FlowTable<R> {
    limits: StreamLimits,
    tally: StreamTally,
    by_key: HashMap<FlowKey, u32, foldhash::fast::RandomState>,
    slots: Vec<Option<Entry<R>>>,
    free: Vec<u32>,
    /// Flows that are open, by their last packet.
    open: Recency,
    /// Flows that have ended, or whose server will say nothing more, by their last packet.
    ended: Recency,
    /// Directions in which bytes wait, by when they began to.
    waits: VecDeque<Wait>,
    waiting_bytes: usize,
    forgotten: Vec<FlowKey>,
    generations: u64,
    /// There were connections with the same ends in several virtual networks.
    divided: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    slot: u32,
    generation: u64,
    direction: Direction,
    /// Since when bytes were missing when this was listed.
    since: Timestamp,
}

/// The flow of a segment, and which way the segment travels there.
#[derive(Clone, Copy, Debug)]
struct Found {
    direction: Direction,
    /// That of the flow's key.
    scope: u64,
    /// Where the flow is, if it is known.
    slot: Option<u32>,
}

// === impl FlowTable ===

impl<R: StreamReader> FlowTable<R> {
    /// An empty table.
    pub fn new(limits: StreamLimits) -> Self {
        Self {
            limits,
            tally: StreamTally::default(),
            by_key: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            open: Recency::default(),
            ended: Recency::default(),
            waits: VecDeque::new(),
            waiting_bytes: 0,
            forgotten: Vec::new(),
            generations: 0,
            divided: false,
        }
    }

    /// What was met so far.
    pub fn tally(&self) -> StreamTally {
        self.tally
    }

    /// Flows known now, ended ones that linger included.
    pub fn flows(&self) -> usize {
        self.by_key.len()
    }

    /// Memory of bytes that wait for earlier ones, in all flows, with what each piece costs besides its bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Flows that readers no longer want, since the last call.
    pub fn take_forgotten(&mut self) -> Vec<FlowKey> {
        std::mem::take(&mut self.forgotten)
    }

    /// Puts one segment in its place, and calls `read` with whatever can be read now.
    ///
    /// # Errors
    /// Why the segment told nothing.
    pub fn accept(
        &mut self,
        segment: &Segment<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Result<(), Unused> {
        // A reset is looked at before anything else that a segment says (RFC 9293 section 3.10.7.4).
        if segment.flags.rst && (segment.flags.syn || segment.flags.fin) {
            let flags = TcpFlags { syn: false, fin: false, rst: true };
            return self.accept(&Segment { flags, ..*segment }, read);
        }
        let Found { mut direction, scope, slot: known } = self.find(segment);
        let opens = segment.flags.syn || (!segment.payload.is_empty() && !segment.flags.rst);
        let mut slot = match known {
            Some(slot) => slot,
            None if opens => self.insert(key(segment, direction, scope), segment, read),
            None => return Err(Unused::NoFlow),
        };
        let Some(mut entry) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return Err(Unused::NoFlow);
        };
        let is_damaged = entry.is_damaged(direction, segment);
        if (segment.flags.syn || entry.rival.is_some()) && !is_damaged {
            match self.settle_contest(slot, direction, segment, read)? {
                Some(settled) => (slot, direction) = settled,
                None => return Ok(()),
            }
            match self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
                Some(settled) => entry = settled,
                None => return Err(Unused::NoFlow),
            }
        }
        if entry.state == State::Ended {
            return Err(Unused::FlowEnded);
        }
        entry.last_seen = entry.last_seen.max(segment.captured_at);
        if entry.state == State::Forgotten {
            // As long as packets come, the flow must not be taken for a new one that was joined.
            self.open.touch(slot);
            return Err(Unused::FlowNotHttp);
        }
        if segment.flags.syn && segment.direction.is_none() && !is_damaged {
            entry.doubt(direction, segment);
        }
        let shared = &mut Shared {
            limits: &self.limits,
            tally: &mut self.tally,
            waiting_bytes: &mut self.waiting_bytes,
        };
        if entry.segment(direction, segment, shared, read) == Interest::Forget {
            entry.forget(shared, &mut self.forgotten);
        }
        if entry.is_undecided() {
            self.decide(slot, read);
            match self.slots.get_mut(slot as usize).and_then(Option::as_mut) {
                Some(decided) => entry = decided,
                None => return Ok(()),
            }
        }
        list_waits(entry, slot, &mut self.waits);
        if entry.state == State::Open && entry.to_server.ended && entry.to_client.ended {
            entry.state = State::Ended;
        }
        // After the server's FIN the socket is often one in TIME-WAIT, on which no filter runs: the client's FIN
        // is never seen, and no answer can come any more.
        if entry.state != State::Forgotten && entry.to_client.ended {
            self.open.remove(slot);
            self.ended.touch(slot);
        } else {
            self.open.touch(slot);
        }
        Ok(())
    }

    /// Lets time pass: gives up gaps that waited too long, forgets idle and ended flows.
    pub fn tick(&mut self, now: Timestamp, read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest) {
        self.give_up_waits(now, read);
        while let Some(slot) = self.open.oldest() {
            if !self.is_older(slot, now, self.limits.idle_max) {
                break;
            }
            self.tally.flows_idle = self.tally.flows_idle.saturating_add(1);
            self.close(slot, read);
            self.remove(slot);
        }
        while let Some(slot) = self.ended.oldest() {
            if !self.is_older(slot, now, self.limits.linger) {
                break;
            }
            self.close(slot, read);
            self.remove(slot);
        }
    }

    /// Ends every flow, so that what is half read comes out as far as it is known.
    pub fn finish(&mut self, read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest) {
        while let Some(slot) = self.ended.oldest().or_else(|| self.open.oldest()) {
            self.close(slot, read);
            self.remove(slot);
        }
    }

    /// Ends the flows of which no more packets will come because the source leaves them out.
    pub fn end_flows(
        &mut self,
        is_left_out: impl Fn(&FlowKey) -> bool,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) {
        let left_out: Vec<u32> =
            self.by_key.iter().filter(|(key, _)| is_left_out(key)).map(|(_, slot)| *slot).collect();
        self.tally.flows_left_out =
            self.tally.flows_left_out.saturating_add(u64::try_from(left_out.len()).unwrap_or(u64::MAX));
        for slot in left_out {
            self.close(slot, read);
            self.remove(slot);
        }
    }

    /// The flow of a segment. Connections in different virtual networks may have the same ends: the one that is met first
    /// goes by those alone, the others by the network, too.
    #[inline]
    fn find(&self, segment: &Segment<'_>) -> Found {
        let found = self.orient(segment, segment.scope);
        let known = found.slot.and_then(|slot| self.slots.get(slot as usize)).and_then(Option::as_ref);
        let is_certain = known.map_or(!self.divided, |entry| entry.network == segment.network);
        if is_certain { found } else { self.find_in_network(segment, found) }
    }

    #[cold]
    fn find_in_network(&self, segment: &Segment<'_>, first: Found) -> Found {
        let own = self.orient(segment, u64::from(segment.network).saturating_add(1));
        let known = first.slot.and_then(|slot| self.slots.get(slot as usize)).and_then(Option::as_ref);
        let is_first = known.is_none_or(|entry| entry.may_own(first.direction, segment));
        if own.slot.is_none() && is_first { first } else { own }
    }

    /// The flow of a segment in this scope. Where the source does not say which end is the server: the end that does not
    /// send the first SYN, or what is known of the flow, or, until it is, the end that did not send the first packet.
    #[inline]
    fn orient(&self, segment: &Segment<'_>, scope: u64) -> Found {
        let find = |direction| {
            let slot = self.by_key.get(&key(segment, direction, scope)).copied();
            Found { direction, scope, slot }
        };
        match segment.direction {
            Some(direction) => find(direction),
            None => {
                let to_server = find(Direction::ToServer);
                if to_server.slot.is_some() {
                    return to_server;
                }
                let to_client = find(Direction::ToClient);
                let is_answer = segment.flags.syn && segment.ack.is_some();
                if to_client.slot.is_some() || is_answer { to_client } else { to_server }
            }
        }
    }

    /// Finds out which connection a segment belongs to when a SYN says, or said, that there is another one between
    /// the same ends. Gives the place of its flow and its direction there; nothing as long as that is not known.
    ///
    /// # Errors
    /// When the segment told nothing.
    #[cold]
    fn settle_contest(
        &mut self,
        slot: u32,
        direction: Direction,
        segment: &Segment<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> Result<Option<(u32, Direction)>, Unused> {
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else {
            return Err(Unused::NoFlow);
        };
        match entry.contest(direction, segment) {
            Contest::Known => Ok(Some((slot, direction))),
            Contest::Contested { again } => {
                let contested = u64::from(!again);
                self.tally.syns_contested = self.tally.syns_contested.saturating_add(contested);
                entry.last_seen = entry.last_seen.max(segment.captured_at);
                Ok(None)
            }
            Contest::New => Ok(Some(self.replace(slot, segment, read))),
            Contest::Begun { direction: begun, seq, ack, at } => {
                let syn = rival::syn(segment, begun == direction, seq, ack, at);
                self.replace(slot, &syn, read);
                self.accept(&syn, read)?;
                let Found { direction, scope: _, slot } = self.find(segment);
                Ok(Some((slot.ok_or(Unused::NoFlow)?, direction)))
            }
        }
    }

    /// Ends a flow and opens another one between the same ends. Gives its place, and the direction of its SYN.
    fn replace(
        &mut self,
        slot: u32,
        syn: &Segment<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> (u32, Direction) {
        self.close(slot, read);
        self.remove(slot);
        let Found { direction, scope, slot: _ } = self.find(syn);
        (self.insert(key(syn, direction, scope), syn, read), direction)
    }

    fn is_older(&self, slot: u32, now: Timestamp, age_max: std::time::Duration) -> bool {
        self.slots
            .get(slot as usize)
            .and_then(Option::as_ref)
            .is_none_or(|entry| now.since(entry.last_seen) > age_max)
    }

    fn insert(
        &mut self,
        key: FlowKey,
        segment: &Segment<'_>,
        read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest,
    ) -> u32 {
        while self.by_key.len() >= self.limits.flows_max.max(1) {
            let Some(slot) = self.ended.oldest().or_else(|| self.open.oldest()) else { break };
            if self.ended.oldest().is_none() {
                self.tally.flows_evicted = self.tally.flows_evicted.saturating_add(1);
            }
            self.close(slot, read);
            self.remove(slot);
        }
        self.sweep_waits();
        let flow = Flow { key, opened: segment.captured_at };
        let mid_stream = !segment.flags.syn;
        let hearing = if mid_stream && segment.direction.is_none() {
            Hearing::Undecided(Box::new(Undecided::new(mid_stream)))
        } else {
            Hearing::Reader(R::from(Opened { flow, mid_stream }))
        };
        self.tally.flows = self.tally.flows.saturating_add(1);
        self.tally.flows_mid_stream = self.tally.flows_mid_stream.saturating_add(u64::from(mid_stream));
        let is_divided = key.scope != segment.scope;
        self.divided |= is_divided;
        self.tally.flows_divided = self.tally.flows_divided.saturating_add(u64::from(is_divided));
        self.generations = self.generations.wrapping_add(1);
        let entry = Entry {
            flow,
            network: segment.network,
            state: State::Open,
            last_seen: segment.captured_at,
            generation: self.generations,
            to_server: Half::default(),
            to_client: Half::default(),
            hearing,
            rival: None,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
            }
        };
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(entry);
        }
        self.by_key.insert(key, slot);
        self.open.touch(slot);
        slot
    }

    /// Tells the reader of an open flow that nothing more will come.
    fn close(&mut self, slot: u32, read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest) {
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if entry.state == State::Open {
            let shared = &mut Shared {
                limits: &self.limits,
                tally: &mut self.tally,
                waiting_bytes: &mut self.waiting_bytes,
            };
            entry.abort(entry.last_seen, shared, read);
            if entry.is_undecided() {
                self.decide(slot, read);
            }
        }
    }

    /// Lets a flow be read whose ends can be told apart by now.
    #[cold]
    fn decide(&mut self, slot: u32, read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest) {
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let shared = &mut Shared {
            limits: &self.limits,
            tally: &mut self.tally,
            waiting_bytes: &mut self.waiting_bytes,
        };
        if let Some(old_key) = entry.decide(shared, &mut self.forgotten, read) {
            self.by_key.remove(&old_key);
            self.by_key.insert(entry.flow.key, slot);
            // What is listed under the old directions no longer counts.
            self.generations = self.generations.wrapping_add(1);
            entry.generation = self.generations;
            entry.to_server.queued = false;
            entry.to_client.queued = false;
            list_waits(entry, slot, &mut self.waits);
        }
    }

    fn remove(&mut self, slot: u32) {
        self.open.remove(slot);
        self.ended.remove(slot);
        if let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(entry.waiting_memory());
            self.by_key.remove(&entry.flow.key);
            self.free.push(slot);
        }
    }

    /// Takes flows that are gone off the list of waits. Otherwise they stay there until they come to its front, and
    /// short flows with a gap could pile up. Two directions of each flow can be listed, so that half of the list
    /// goes at least.
    fn sweep_waits(&mut self) {
        if self.waits.len() >= self.limits.flows_max.max(1).saturating_mul(4) {
            let slots = &self.slots;
            self.waits.retain(|wait| {
                let entry = slots.get(wait.slot as usize).and_then(Option::as_ref);
                entry.is_some_and(|entry| entry.generation == wait.generation)
            });
        }
    }

    fn give_up_waits(&mut self, now: Timestamp, read: &mut impl FnMut(&mut R, StreamEvent<'_>) -> Interest) {
        // Each direction is listed once, so one round over the list is enough and bounded.
        for _ in 0..self.waits.len() {
            let Some(wait) = self.waits.front().copied() else { return };
            let entry = self
                .slots
                .get_mut(wait.slot as usize)
                .and_then(Option::as_mut)
                .filter(|entry| entry.generation == wait.generation && entry.state == State::Open);
            let Some(entry) = entry else {
                self.waits.pop_front();
                continue;
            };
            match entry.half(wait.direction).missing_since() {
                Some(_) if now.since(wait.since) <= self.limits.gap_wait_max => return,
                Some(since) if now.since(since) > self.limits.gap_wait_max => {
                    let shared = &mut Shared {
                        limits: &self.limits,
                        tally: &mut self.tally,
                        waiting_bytes: &mut self.waiting_bytes,
                    };
                    if entry.give_up(wait.direction, GapCause::Timeout, now, shared, read) == Interest::Forget
                    {
                        entry.forget(shared, &mut self.forgotten);
                    }
                }
                // What was missing came; something else is missing since then.
                Some(_) | None => {}
            }
            self.waits.pop_front();
            if entry.is_undecided() {
                entry.half_mut(wait.direction).queued = false;
                list_waits(entry, wait.slot, &mut self.waits);
                self.decide(wait.slot, read);
                continue;
            }
            let half = entry.half_mut(wait.direction);
            let since = half.missing_since();
            half.queued = since.is_some();
            if let Some(since) = since {
                self.waits.push_back(Wait { since, ..wait });
            }
        }
    }
}

/// The key of the flow of a segment that travels this way there.
#[inline]
fn key(segment: &Segment<'_>, direction: Direction, scope: u64) -> FlowKey {
    let key = FlowKey { client: segment.source, server: segment.destination, scope };
    match direction {
        Direction::ToServer => key,
        Direction::ToClient => key.reversed(),
    }
}

/// Lists the directions in which bytes wait and that are not listed yet.
fn list_waits<R: StreamReader>(entry: &mut Entry<R>, slot: u32, waits: &mut VecDeque<Wait>) {
    let generation = entry.generation;
    for (direction, half) in
        [(Direction::ToServer, &mut entry.to_server), (Direction::ToClient, &mut entry.to_client)]
    {
        if !half.queued
            && let Some(since) = half.missing_since()
        {
            half.queued = true;
            waits.push_back(Wait { slot, generation, direction, since });
        }
    }
}

#[cfg(test)]
mod tests;
