//! Components that answer requests.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};

use super::timing::measure as time;
use super::{Measured, Trial, refuse, turning};
use crate::net::Wheel;
use crate::wasm::call::Call;
use crate::wasm::message::{self, Request, Response};
use crate::wasm::pool::{ComponentId, Pool};
use crate::wasm::{Fault, Guests, Pools};

/// What an answer was.
struct Said {
    status: u16,
    bytes: usize,
}

pub async fn measure(trial: &Trial<'_>, guests: &Guests) -> Measured {
    let wheel = turning()?;
    let pools = Pools::new(0);
    pools.adopt(guests);
    let (fresh, kept) = (pools.of(ComponentId(0)), pools.of(ComponentId(1)));
    let said = answer(trial, &fresh, &wheel).await?;
    let mut said = format!("{} with {} bytes", said.status, said.bytes);
    let what = "a request, on an instance of its own";
    let mut rows =
        vec![time(what, trial.time, async || answer(trial, &fresh, &wheel).await.map(drop)).await?];
    // Some are made for one request, whatever is configured.
    match time("… on one that is kept", trial.time, async || answer(trial, &kept, &wheel).await.map(drop))
        .await
    {
        Ok(row) => rows.push(row),
        Err(reason) => said += &format!(", and cannot be kept for another request: {reason}"),
    }
    let memory = kept.idle_memory();
    Ok((said, rows, memory))
}

async fn answer(trial: &Trial<'_>, pool: &Rc<Pool>, wheel: &Rc<Wheel>) -> Result<Said, String> {
    let request = request(trial)?;
    let permit = pool.enter(wheel).await.map_err(|fault| fault.reason().to_owned())?;
    let time = pool.guest.settings.limits.time;
    let answered = wheel.timeout(time, exchange(Call::new(permit, request))).await;
    answered.unwrap_or(Err(Fault::Time)).map_err(|fault| fault.reason().to_owned())
}

fn request(trial: &Trial<'_>) -> Result<Request, String> {
    let mut request = message::request(trial.head.to_vec(), None)?;
    if !trial.body.is_empty() {
        let body = Full::new(Bytes::copy_from_slice(trial.body));
        *request.body_mut() = body.map_err(|never: Infallible| match never {}).boxed_unsync();
    }
    Ok(request)
}

/// One request, to the return of the instance.
async fn exchange(mut call: Call) -> Result<Said, Fault> {
    let answer: Response = poll_fn(|cx| {
        run(&mut call, cx);
        call.answer().map_or(Poll::Pending, Poll::Ready)
    })
    .await?;
    let mut said = Said { status: answer.status().as_u16(), bytes: 0 };
    let mut body = answer.into_body();
    loop {
        let frame = poll_fn(|cx| {
            run(&mut call, cx);
            Pin::new(&mut body).poll_frame(cx)
        });
        match frame.await {
            Some(Ok(frame)) => said.bytes += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) => return Err(call.fault().unwrap_or(Fault::Cut)),
            None => break,
        }
    }
    drop(body);
    poll_fn(|cx| {
        run(&mut call, cx);
        if call.is_done() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    call.fault().map_or(Ok(said), Err)
}

fn run(call: &mut Call, cx: &mut Context<'_>) {
    call.poll(cx);
    refuse(call.outbox());
}
