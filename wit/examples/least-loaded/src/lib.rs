//! A load-balancing policy: the endpoint with the least expected wait for its weight.

#[cfg(target_family = "wasm")]
mod guest;

pub struct Endpoint {
    pub active: u32,
    pub ewma_us: u32,
    pub weight: u32,
    pub healthy: bool,
}

/// The index of the endpoint whose queue, with this request, costs least: requests in flight times
/// the time that one takes. An unknown time counts as the shortest that is known, so that
/// a new endpoint is tried. Among equals the first from `start` on wins.
pub fn pick(endpoints: &[Endpoint], start: u32) -> Option<u32> {
    let healthy = endpoints.iter().filter(|endpoint| endpoint.healthy);
    let shortest = healthy.map(|endpoint| endpoint.ewma_us).filter(|&us| us > 0).min().unwrap_or(1);
    let count = endpoints.len();
    let mut best: Option<(f64, usize)> = None;
    for turn in 0..count {
        let index = (start as usize + turn) % count;
        let endpoint = &endpoints[index];
        if !endpoint.healthy {
            continue;
        }
        let us = if endpoint.ewma_us == 0 { shortest } else { endpoint.ewma_us };
        let cost = (f64::from(endpoint.active) + 1.0) * f64::from(us) / f64::from(endpoint.weight.max(1));
        if best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, index));
        }
    }
    best.map(|(_, index)| index as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_wait_for_its_weight_wins() {
        let e = |active, ewma_us, weight, healthy| Endpoint { active, ewma_us, weight, healthy };
        let table: [(&[Endpoint], u32, Option<u32>); 8] = [
            (&[], 0, None),
            (&[e(0, 0, 1, false)], 0, None),
            (&[e(3, 100, 1, true), e(1, 100, 1, true)], 0, Some(1)),
            (&[e(1, 100, 1, true), e(1, 100, 1, true)], 1, Some(1)),
            (&[e(1, 100, 1, true), e(1, 100, 1, true)], 2, Some(0)),
            (&[e(1, 100, 1, true), e(2, 100, 3, true)], 0, Some(1)),
            (&[e(0, 900, 1, true), e(2, 100, 1, true)], 0, Some(1)),
            (&[e(1, 100, 1, true), e(0, 0, 1, true), e(0, 1, 1, false)], 0, Some(1)),
        ];
        for (row, (endpoints, start, expected)) in table.into_iter().enumerate() {
            assert_eq!(pick(endpoints, start), expected, "row {row}");
        }
    }
}
