//! The children with a new plan: those that are new are started, those that are gone are stopped
//! when nothing is in flight to them any more, those that are to run otherwise are restarted one
//! after the other, and all others are left alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::admin::{Failure, Verb};
use super::control::Control;
use super::names::Names;
use crate::plan::{Child, Plan};
use crate::process::orders::{Report, State};
use crate::process::readiness::Address;
use crate::process::settings::{Name, Settings};
use crate::upstream::Vitals;

/// What a new plan leaves to do with children.
#[derive(Default)]
pub struct Rolls {
    /// To be restarted.
    due: VecDeque<Name>,
    leaving: Vec<Leaving>,
}

/// One that is not to run any more.
struct Leaving {
    name: Name,
    vitals: Vec<Arc<Vitals>>,
    until: Instant,
}

/// One that there is.
struct Former {
    settings: Settings,
    /// Where it listens, if that is one place.
    at: Option<Address>,
}

/// What becomes of one that both plans have.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    None,
    /// At its next start.
    Later,
    /// With the new one beside the old one, or after the jobs before it.
    Roll,
    /// At once: one that is not ready, or whose instances are others.
    Replace,
}

impl Rolls {
    fn rename(&mut self, from: &Name, to: &Name) {
        self.due.iter_mut().filter(|name| *name == from).for_each(|name| *name = to.clone());
    }

    /// Something has to be looked at often.
    pub fn are_pending(&self) -> bool {
        !self.leaving.is_empty()
    }
}

impl Control {
    /// Tells `master` which children a new plan has, and the names where they are until they are
    /// restarted. The plan in force is still the former one.
    pub(super) fn change_children(&mut self, plan: &Plan, names: &mut Names) {
        let former = self.renamed(plan);
        for Former { settings, .. } in
            former.iter().filter(|one| find(&plan.children, &one.settings.name).is_none())
        {
            self.let_go(settings);
        }
        let mut due = VecDeque::new();
        for Child { settings, .. } in &plan.children {
            let name = &settings.name;
            let ordered = || Box::new(settings.clone());
            let Some(former) = former.iter().find(|one| one.settings.name == *name) else {
                self.children.expect(name);
                self.tell_master(&Report::Add(ordered()));
                continue;
            };
            // Where it listens now it listens until it is restarted.
            let at = former.at.as_ref().filter(|at| Some(*at) != only(settings));
            names.relocate(&name.upstream, name.instance, at);
            let report = match self.change(&former.settings, settings) {
                Change::None => None,
                Change::Later => Some(Report::Reorder(ordered())),
                Change::Roll => {
                    due.push_back(name.clone());
                    Some(Report::Reorder(ordered()))
                }
                Change::Replace => {
                    self.children.expect(name);
                    names.relocate(&name.upstream, name.instance, None);
                    Some(Report::Replace(ordered()))
                }
            };
            report.into_iter().for_each(|report| self.tell_master(&report));
        }
        self.children.retain(|name| find(&plan.children, name).is_some());
        names.retain_elsewhere(|upstream, instance| {
            let is_it = |one: &Name| {
                one.upstream == upstream && one.instance.is_none_or(|own| own as usize == instance)
            };
            plan.children.iter().any(|child| is_it(&child.settings.name))
        });
        self.rolls.due = due;
    }

    /// The children of the plan in force, under the names that they have in another one: who listens
    /// where one of another name is to listen is that one.
    fn renamed(&mut self, plan: &Plan) -> Vec<Former> {
        let running = Arc::clone(&self.plan);
        let former = |Child { settings, .. }: &Child| {
            let elsewhere = self.names.elsewhere(&settings.name.upstream, settings.name.instance);
            Former { settings: settings.clone(), at: elsewhere.or_else(|| only(settings).cloned()) }
        };
        let mut former: Vec<Former> = running.children.iter().map(former).collect();
        for child in &plan.children {
            let Settings { name, addresses, .. } = &child.settings;
            let is_it = |one: &&mut Former| {
                one.settings.addresses == *addresses && find(&plan.children, &one.settings.name).is_none()
            };
            if find(&running.children, name).is_none()
                && let Some(one) = former.iter_mut().find(is_it)
            {
                let from = std::mem::replace(&mut one.settings.name, name.clone());
                self.children.rename(&from, name);
                self.rolls.rename(&from, name);
                self.tell_master(&Report::Rename { from, to: name.clone() });
            }
        }
        former
    }

    fn change(&self, former: &Settings, next: &Settings) -> Change {
        let is_stale = self.rolls.due.contains(&next.name) || self.children.is_stale(&next.name);
        let state = self.children.condition(&next.name).map(|condition| condition.state);
        change(former, next, is_stale, state)
    }

    fn let_go(&mut self, settings: &Settings) {
        let name = settings.name.clone();
        let vitals = self.names.vitals(&name.upstream, name.instance);
        let until = Instant::now() + settings.stop_timeout;
        self.rolls.leaving.push(Leaving { name, vitals, until });
    }

    /// Does what its time has come for: one after the other, and nothing beside a reload.
    pub(super) fn advance_rolls(&mut self) {
        let now = Instant::now();
        let is_over = |one: &mut Leaving| {
            // Every core has let go of it: its table, its connections and its exchanges.
            one.until <= now || one.vitals.iter().all(|vitals| Arc::strong_count(vitals) == 1)
        };
        let over: Vec<Leaving> = self.rolls.leaving.extract_if(.., is_over).collect();
        over.into_iter().for_each(|one| self.tell_master(&Report::Remove(one.name)));
        if self.operation.is_some() || self.reload.is_some() {
            return;
        }
        let Some(name) = self.rolls.due.pop_front() else { return };
        let Some(index) = self.plan.children.iter().position(|child| child.settings.name == name) else {
            return;
        };
        tracing::info!("`{name}` is to run otherwise: restarting it");
        self.children.set_stale(&name, true);
        let (answer, answered) = oneshot::channel::<Result<(), Failure>>();
        tokio::spawn(async move {
            // None comes if the process ends first.
            if let Ok(Err(failure)) = answered.await {
                tracing::error!("{}: what runs is as before the reload", failure.message());
            }
        });
        self.proceed(Verb::Restart, name.to_string(), VecDeque::from([index]), answer);
    }

    pub(super) fn tell_master(&self, report: &Report) {
        if let Err(error) = self.master.send(report) {
            tracing::error!("cannot tell master of a child: {error}");
        }
    }
}

fn find<'a>(children: &'a [Child], name: &Name) -> Option<&'a Child> {
    children.iter().find(|child| child.settings.name == *name)
}

/// The address of one that has only one.
fn only(settings: &Settings) -> Option<&Address> {
    match settings.addresses.as_slice() {
        [alternatives] => alternatives.first(),
        _ => None,
    }
}

fn change(former: &Settings, next: &Settings, is_stale: bool, state: Option<State>) -> Change {
    if next == former && !is_stale {
        return Change::None;
    }
    let is_elsewhere = next.addresses != former.addresses;
    match state {
        Some(State::Stopped) => Change::Later,
        _ if next.runs_as(former) && !is_stale => Change::Later,
        Some(State::Ready) if !is_elsewhere => Change::Roll,
        Some(State::Ready) if only(next).is_some() && only(former).is_some() => Change::Roll,
        _ => Change::Replace,
    }
}
