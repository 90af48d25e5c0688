//! What the process manager of one process knows by itself: keys and values, barriers, sizes.

use std::collections::HashMap;

use crate::pmi::message::{Message, Request};

pub struct Answers {
    /// PMI's subversion, as the program's libmpi speaks it.
    subversion: u32,
    keys: HashMap<Vec<u8>, Vec<u8>>,
}

impl Answers {
    pub fn new(subversion: u32) -> Answers {
        Answers {
            subversion,
            keys: HashMap::new(),
        }
    }

    /// The answer to this, if it can be known here.
    pub fn answer(&mut self, request: Request<'_>) -> Option<Message> {
        Some(match request {
            Request::Init => {
                let subversion = self.subversion;
                request.success(format_args!(" pmi_version=1 pmi_subversion={subversion}"))
            }
            // Hydra's (src/pm/hydra/lib/pmiserv_common.h).
            Request::GetMaxes => request.success(" kvsname_max=256 keylen_max=64 vallen_max=1024"),
            Request::AppNum => request.success(" appnum=0"),
            Request::KvsName => {
                request.success(format_args!(" kvsname=singleton_{}", std::process::id()))
            }
            Request::Put { key, value } => {
                self.keys.insert(key.to_vec(), value.to_vec());
                request.success("")
            }
            Request::Get { key } => match self.keys.get(key) {
                Some(value) => request.success(format_args!(
                    " found=TRUE value={}",
                    String::from_utf8_lossy(value)
                )),
                None if key == b"PMI_process_mapping" => {
                    request.success(" found=TRUE value=(vector,(0,1,1))")
                }
                None => request.failure("key_not_found"),
            },
            Request::Barrier { tag } => match tag {
                Some(tag) => request.success(format_args!(" tag={}", String::from_utf8_lossy(tag))),
                None => request.success(""),
            },
            Request::Finalize
            | Request::Abort
            | Request::UniverseSize
            | Request::Publish
            | Request::Unpublish
            | Request::Lookup
            | Request::Spawn
            | Request::Other => return None,
        })
    }
}
