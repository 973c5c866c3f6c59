//! Calls that do nothing but convert, ask and convert: both ends of them, a line for each.

/// Methods of a client that has a `channel` and an [`Ask`](crate::ask::Ask), for the calls of one service.
///
/// ```text
/// calls! { pb::run_service_client::RunServiceClient:
///     /// Starts a run.
///     one start_run(request: StartRunRequest) -> Run;
///     /// Streams the run.
///     many watch_run(run_id: RunId) -> Run;
///     /// Takes its time.
///     one[DEADLINE] list_vms(vcenter: Option<String>) -> Vec<VmSummary>;
///     /// Sends a message without a field.
///     one list_nodes() -> Vec<Node>;
/// }
/// ```
///
/// `one` answers, or `many`; in brackets how long that may take where it is not usual. Messages are bounded by the `MESSAGE_BYTES_MAX` of the calling crate.
#[macro_export]
macro_rules! calls {
    ($pb:ident::$module:ident::$stub:ident: $(
        $(#[$doc:meta])*
        $how:ident $([$deadline:expr])? $name:ident($($request:ident: $domain:ty)?) -> $answer:ty;
    )*) => {$(
        $(#[$doc])*
        pub async fn $name(
            &self,
            $($request: $domain)?
        ) -> Result<$crate::calls!(@$how $answer), stillwater_types::Fault> {
            let message = tonic::Request::new($crate::calls!(@message $($request)?).into());
            let mut stub = $crate::stub!(self, $pb::$module::$stub);
            self.ask$(.within($deadline))?.$how(stub.$name(message)).await
        }
    )*};
    (@one $answer:ty) => { $answer };
    (@many $answer:ty) => {
        futures::stream::BoxStream<'static, Result<$answer, stillwater_types::Fault>>
    };
    (@message $request:ident) => { $request };
    (@message) => { () };
}

/// The generated client of one service over the `channel` of a client.
#[macro_export]
macro_rules! stub {
    ($client:ident, $pb:ident::$module:ident::$stub:ident) => {
        $pb::$module::$stub::new($client.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    };
}

/// A service as tonic serves it, over an object that speaks the domain's types.
///
/// ```text
/// serves! { run_service: pb::run_service_server::{RunService, RunServiceServer}
///     one start_run(StartRunRequest) -> StartRunResponse;
///     many watch_run(WatchRunRequest) -> WatchRunResponse as WatchRunStream;
///     bare list_nodes(ListNodesRequest) -> ListNodesResponse;
///     own { async fn put_pack(&self, …) … }
/// }
/// ```
///
/// `one` answers, or `many`; `bare` is asked by a message without a field; `own` is written out. The object's trait has the
/// service's name.
#[macro_export]
macro_rules! serves {
    ($make:ident: $pb:ident::$module:ident::{$service:ident, $server:ident} $($rest:tt)*) => {
        /// Serves `service`; for `tonic::service::Routes::add_service`.
        pub fn $make(service: std::sync::Arc<dyn $service>) -> impl $crate::serve::Grpc {
            $pb::$module::$server::new(Adaptor(service))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        }

        $crate::serves! { @methods $pb $module $service [] $($rest)* }
    };
    (@methods $pb:ident $module:ident $service:ident [$($done:tt)*]
        one $name:ident($request:ident) -> $answer:ident; $($rest:tt)*) => {
        $crate::serves! { @methods $pb $module $service [$($done)*
            async fn $name(
                &self,
                request: tonic::Request<$pb::$request>,
            ) -> Result<tonic::Response<$pb::$answer>, tonic::Status> {
                let (peer, request) = $crate::serve::open(request)?;
                $crate::serve::reply(self.0.$name(&peer, request).await)
            }
        ] $($rest)* }
    };
    (@methods $pb:ident $module:ident $service:ident [$($done:tt)*]
        bare $name:ident($request:ident) -> $answer:ident; $($rest:tt)*) => {
        $crate::serves! { @methods $pb $module $service [$($done)*
            async fn $name(
                &self,
                request: tonic::Request<$pb::$request>,
            ) -> Result<tonic::Response<$pb::$answer>, tonic::Status> {
                let (peer, ()) = $crate::serve::open(request)?;
                $crate::serve::reply(self.0.$name(&peer).await)
            }
        ] $($rest)* }
    };
    (@methods $pb:ident $module:ident $service:ident [$($done:tt)*]
        many $name:ident($request:ident) -> $answer:ident as $stream:ident; $($rest:tt)*) => {
        $crate::serves! { @methods $pb $module $service [$($done)*
            type $stream = $crate::serve::Outgoing<$pb::$answer>;

            async fn $name(
                &self,
                request: tonic::Request<$pb::$request>,
            ) -> Result<tonic::Response<Self::$stream>, tonic::Status> {
                let (peer, request) = $crate::serve::open(request)?;
                $crate::serve::reply_stream(self.0.$name(&peer, request).await)
            }
        ] $($rest)* }
    };
    (@methods $pb:ident $module:ident $service:ident [$($done:tt)*]
        own { $($method:tt)* } $($rest:tt)*) => {
        $crate::serves! { @methods $pb $module $service [$($done)* $($method)*] $($rest)* }
    };
    (@methods $pb:ident $module:ident $service:ident [$($done:tt)*]) => {
        #[async_trait::async_trait]
        impl $pb::$module::$service for Adaptor<dyn $service> {
            $($done)*
        }
    };
}
