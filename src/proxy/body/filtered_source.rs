//! A body as it comes out of the middleware that it passes.

use super::{Frame, Held, Source, SourceFault};
use crate::http::fields::Fields;
use crate::net::Buffer;
use crate::proxy::core::Core;
use crate::proxy::filters::Stage;

pub struct FilteredSource<'a> {
    core: &'a Core,
    inner: Source<'a>,
    /// In the order in which the body passes them; there is at least one.
    stages: Vec<Stage>,
}

impl<'a> FilteredSource<'a> {
    pub fn new(core: &'a Core, inner: Source<'a>, stages: Vec<Stage>) -> FilteredSource<'a> {
        FilteredSource { core, inner, stages }
    }

    pub fn into_parts(self) -> (Source<'a>, Vec<Stage>) {
        (self.inner, self.stages)
    }

    pub fn inner(&self) -> &Source<'a> {
        &self.inner
    }

    /// It passes another one.
    pub fn push(&mut self, stage: Stage) {
        self.stages.push(stage);
    }

    fn last(&self) -> &Stage {
        self.stages.last().expect("there is at least one stage")
    }

    fn last_mut(&mut self) -> &mut Stage {
        self.stages.last_mut().expect("there is at least one stage")
    }

    pub fn ready(&mut self) -> Result<Option<Frame>, SourceFault> {
        pull(self.core, &mut self.inner, &mut self.stages)
    }

    pub async fn next(&mut self) -> Result<Frame, SourceFault> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(frame);
            }
            // Boxed, because a source would be part of itself otherwise.
            let frame = Box::pin(self.inner.next()).await?;
            let is_last = self.inner.is_finished();
            self.stages[0].pass(self.core, frame, is_last)?;
        }
    }

    pub fn recycle(&mut self, buffer: Buffer) {
        self.inner.recycle(buffer);
    }

    pub fn unread(&mut self, buffer: Buffer) {
        let buffers = &self.core.buffers;
        self.last_mut().held().put_back(buffer, buffers);
    }

    pub fn unread_trailers(&mut self, fields: Fields) {
        self.last_mut().unread_trailers(fields);
    }

    pub fn is_finished(&self) -> bool {
        self.last().is_finished()
    }

    pub fn has_all(&self) -> bool {
        self.last().has_all()
    }

    pub fn held(&mut self) -> &mut Held {
        self.last_mut().held()
    }

    pub fn end(&mut self) {
        self.last_mut().end();
    }
}

/// The next frame that comes out of the last stage, if that needs no waiting.
fn pull(core: &Core, inner: &mut Source<'_>, stages: &mut [Stage]) -> Result<Option<Frame>, SourceFault> {
    let Some((stage, before)) = stages.split_last_mut() else { return inner.ready() };
    loop {
        if let Some(frame) = stage.ready(&core.buffers) {
            return Ok(Some(frame));
        }
        let Some(frame) = pull(core, inner, before)? else { return Ok(None) };
        let is_last = before.last().map_or_else(|| inner.is_finished(), Stage::is_finished);
        stage.pass(core, frame, is_last)?;
    }
}
