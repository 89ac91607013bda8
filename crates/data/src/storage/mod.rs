//! Where data lie, and how their bytes are read: files, commands, web servers, object stores, the Hugging Face hub.
//!
//! * [`Place`] – one file anywhere, by the name that a user gives it
//! * [`Stream`] – its bytes; [`Patience`] and [`Watch`] – how long somebody waits for them
//! * `file`, `pipe`, `remote` – how each is opened
//! * [`store`] – a folder in an object store, which can also be written
//! * `mask` – addresses and commands without their secrets, for messages
//!
//! What is far away is read ahead by tasks of one small runtime. A read that fails is repeated from the byte that was reached,
//! after pauses that double, until nothing came for as long as [`Patience`] has it. What a server refuses (403, 404 …) is not asked
//! for again. Object stores and web servers are behind the feature `cloud`.
//!
//! | variable | what it does |
//! |---|---|
//! | `OPENCLIP_DATA_TIMEOUT` | seconds for which a command, server or store may give nothing (60); a request is repeated after half of it |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | keys for `s3://` |
//! | `AWS_PROFILE`, `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE` | keys, `region` and `endpoint_url` of a profile, for what the environment does not say (`default` in `~/.aws/credentials` and `~/.aws/config`) |
//! | `AWS_REGION` | region (us-east-1) |
//! | `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` | another server that speaks S3; `http://` means without TLS |
//! | `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` … | roles of containers; without any keys the role of the instance |
//! | `AWS_SKIP_SIGNATURE`, `GOOGLE_SKIP_SIGNATURE`, `AZURE_SKIP_SIGNATURE` | `true` for public buckets, without keys |
//! | `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT` | a file of keys for `gs://`; without it the role of the instance |
//! | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN` | account and keys for `az://`, `abfs://` |
//! | `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` | token, another hub, and none at all, for `hf://datasets/ORG/NAME/…` |
//! | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies for all of these |

mod file;
mod mask;
mod pipe;
mod place;
#[cfg(feature = "cloud")]
mod remote;
pub mod store;
mod stream;

pub use mask::mask;
pub use place::{Place, Started};
pub use store::{RemoteError, Store};
pub use stream::{Patience, Stream, Watch};
