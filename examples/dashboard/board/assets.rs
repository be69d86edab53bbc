//! The files of the page.

use axum::{
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};

/// A file of the page.
pub struct Asset {
    pub path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

impl Asset {
    pub fn response(&self) -> Response {
        ([(CONTENT_TYPE, self.content_type)], self.text).into_response()
    }
}

const fn script(path: &'static str, text: &'static str) -> Asset {
    Asset { path, content_type: "text/javascript; charset=utf-8", text }
}

pub static ALL: [Asset; 9] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("board.html") },
    Asset { path: "/board.css", content_type: "text/css; charset=utf-8", text: include_str!("board.css") },
    script("/board.js", include_str!("board.js")),
    script("/card.js", include_str!("card.js")),
    script("/chart.js", include_str!("chart.js")),
    script("/model.js", include_str!("model.js")),
    script("/numbers.js", include_str!("numbers.js")),
    script("/page.js", include_str!("page.js")),
    script("/switches.js", include_str!("switches.js")),
];
