//! Needs ureq 3 and `serde_json`.

use std::{env, error::Error, time::Duration};

fn playback(asset: &str) -> Result<serde_json::Value, Box<dyn Error>> {
    let mut answer = ureq::post(format!("{}/v1/playback", env::var("REELGATE_API")?))
        .header("authorization", format!("Bearer {}", env::var("REELGATE_API_TOKEN")?))
        .header("content-type", "application/json")
        .config()
        .timeout_global(Some(Duration::from_secs(5)))
        .http_status_as_error(false)
        .build()
        .send(serde_json::json!({ "asset": asset }).to_string())?;
    let (status, body) = (answer.status(), answer.body_mut().read_to_string()?);
    if !status.is_success() {
        return Err(format!("playback of {asset}: {status} {body}").into());
    }
    Ok(serde_json::from_str(&body)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", playback("talk")?["url"].as_str().ok_or("there is no url")?);
    Ok(())
}
