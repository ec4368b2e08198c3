//! Flight SQL, as clients see it through TLS.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables, SqlInfo};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightInfo, Ticket};
use arrow_schema::DataType;
use futures_util::{StreamExt, TryStreamExt};
use icecore_sql::flight::FlightServer;
use prost::Message;
use serde_json::Value;
use tokio::runtime;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::log::{Log, station};

/// More than anybody fetches.
const ENDLESS: &str =
    "SELECT a.value, b.value AS other FROM generate_series(1, 100000) a, generate_series(1, 100000) b";

type Client = FlightSqlServiceClient<Channel>;

/// A server over a log, until it is dropped.
struct Served {
    address: SocketAddr,
    authority: Certificate,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn new(log: &Log) -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let server = FlightServer::new(log.database(), certificate.as_bytes(), key.as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serve = async {
            let stopped = async {
                let _ = stopped.await;
            };
            server.serve(listener, stopped).await.unwrap();
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = thread::spawn(move || runtime.block_on(serve));
        let authority = Certificate::from_pem(certificate);
        Self { address, authority, stop: Some(stop), thread: Some(thread) }
    }

    async fn client(&self) -> Client {
        let trust = ClientTlsConfig::new().ca_certificate(self.authority.clone()).domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        FlightSqlServiceClient::new(endpoint.tls_config(trust).unwrap().connect().await.unwrap())
    }

    fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().unwrap()
}

/// The rows of what is described, and what they cover, if that is said.
async fn fetch(client: &mut Client, info: FlightInfo) -> Result<(RecordBatch, Option<Value>), FlightError> {
    let described = Arc::new(info.clone().try_decode_schema()?);
    let answer = client.do_get(ticket(&info)).await?;
    let (mut batches, mut coverage) = (Vec::new(), None);
    let mut messages = answer.into_inner();
    while let Some(message) = messages.try_next().await? {
        let told = message.app_metadata();
        if !told.is_empty() {
            coverage = Some(serde_json::from_slice(&told).unwrap());
        }
        if let arrow_flight::decode::DecodedPayload::RecordBatch(batch) = message.payload {
            assert_eq!(batch.schema(), described, "as it was described");
            batches.push(batch);
        }
    }
    Ok((arrow_select::concat::concat_batches(&described, &batches)?, coverage))
}

async fn ask(client: &mut Client, statement: &str) -> Result<(RecordBatch, Option<Value>), FlightError> {
    let info = client.execute(statement.to_owned(), None).await?;
    fetch(client, info).await
}

/// The code and the words of what went wrong.
fn status<T>(asked: Result<T, FlightError>) -> (Code, String) {
    match asked.map(|_| ()).unwrap_err() {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        error => panic!("not from the server: {error}"),
    }
}

fn texts(rows: &RecordBatch, column: usize) -> Vec<&str> {
    rows.column(column).as_string::<i32>().iter().flatten().collect()
}

#[test]
fn answers_come_with_what_they_cover() {
    let mut log = station();
    log.skip("yard", 3);
    log.add("yard", &crate::log::weather(), &[crate::log::row(50 * crate::log::SECOND, 1.0)]);
    let served = Served::new(&log);
    log.run(async {
        let mut client = served.client().await;
        let (rows, coverage) =
            ask(&mut client, "SELECT device, temp FROM weather ORDER BY event_time, device").await.unwrap();
        assert_eq!((rows.num_rows(), rows.schema().field(0).data_type()), (41, &DataType::Utf8));
        let coverage = coverage.unwrap();
        assert_eq!((&coverage["present"], &coverage["complete"]), (&41.into(), &false.into()));
        assert_eq!(coverage["unstored"]["not_arrived"], 3);

        let (rows, coverage) =
            ask(&mut client, "SELECT count(*) FROM weather WHERE device = 'hall/a'").await.unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int64Type>().value(0), 20);
        assert_eq!(coverage.unwrap()["complete"], true);
        client.set_header("icecore-require-complete", "true");
        let (code, said) = status(ask(&mut client, "SELECT temp FROM weather").await);
        assert!(code == Code::FailedPrecondition && said.contains("3 not arrived"), "{said}");
    });
}

#[test]
fn devices_inside_of_other_values_come_as_text() {
    let log = station();
    let served = Served::new(&log);
    log.run(async {
        let mut client = served.client().await;
        let statement = "SELECT array_agg(device) AS l, named_struct('d', device) AS s, map([device], [temp]) AS m, \
            [named_struct('d', device)] AS ls FROM weather WHERE device = 'yard' GROUP BY device, temp ORDER BY temp LIMIT 3";
        let (rows, _) = ask(&mut client, statement).await.unwrap();
        assert_eq!(rows.num_rows(), 3);
        let lists = rows.column(0).as_list::<i32>();
        assert_eq!(lists.values().as_string::<i32>().value(0), "yard");
        assert_eq!(rows.column(1).as_struct().column(0).as_string::<i32>().value(0), "yard");
        assert_eq!(rows.column(2).as_map().keys().as_string::<i32>().value(0), "yard");
    });
}

#[test]
fn mistakes_have_kinds() {
    let log = station();
    let served = Served::new(&log);
    log.run(async {
        let mut client = served.client().await;
        let (code, said) = status(ask(&mut client, "SELECT tmp FROM weather").await);
        assert!(code == Code::InvalidArgument && said.contains("did you mean"), "{said}");
        let (code, said) = status(ask(&mut client, "DROP TABLE weather").await);
        assert!(code == Code::Unimplemented && said.contains("is refused"), "{said}");
        let (code, said) = status(client.execute_update("DELETE FROM weather".into(), None).await);
        assert!(code == Code::Unimplemented && said.contains("only read"), "{said}");
        let begun = client.begin_transaction().await;
        assert_eq!(status(begun).0, Code::Unimplemented);
        let divided = status(ask(&mut client, "SELECT 1 / (value - 5) FROM generate_series(1, 9)").await);
        assert!(divided.1.to_lowercase().contains("divide by zero"), "{divided:?}");
    });
}

#[test]
fn prepared_statements_take_parameters() {
    let log = station();
    let served = Served::new(&log);
    log.run(async {
        let mut client = served.client().await;
        let text = "SELECT device FROM weather WHERE temp > ? AND device = ?".to_owned();
        let mut prepared = client.prepare(text, None).await.unwrap();
        let parameters = prepared.parameter_schema().unwrap();
        let types: Vec<_> = parameters.fields().iter().map(|field| field.data_type()).collect();
        assert_eq!(types, [&DataType::Float64, &DataType::Utf8]);
        assert_eq!(prepared.dataset_schema().unwrap().field(0).data_type(), &DataType::Utf8);
        for (least, device, expected) in [(117.5, "yard", 2), (15.5, "hall/a", 4), (0.0, "nowhere", 0)] {
            let least: ArrayRef = Arc::new(Float64Array::from(vec![least]));
            let device: ArrayRef = Arc::new(StringArray::from(vec![device]));
            prepared
                .set_parameters(RecordBatch::try_from_iter([("1", least), ("2", device)]).unwrap())
                .unwrap();
            let info = prepared.execute().await.unwrap();
            assert_eq!(fetch(&mut client, info).await.unwrap().0.num_rows(), expected);
        }
        let one: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        prepared.set_parameters(RecordBatch::try_from_iter([("1", one)]).unwrap()).unwrap();
        let (code, said) = status(prepared.execute().await);
        assert!(
            code == Code::InvalidArgument && said.contains("2 parameters ($1, $2), and 1 value was given"),
            "{said}"
        );
        prepared.close().await.unwrap();
    });
}

#[test]
fn tables_are_listed_with_their_columns() {
    let log = station();
    let served = Served::new(&log);
    log.run(async {
        let mut client = served.client().await;
        let info = client.get_catalogs().await.unwrap();
        assert_eq!(texts(&fetch(&mut client, info).await.unwrap().0, 0), ["icecore"]);
        let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
        assert_eq!(texts(&fetch(&mut client, info).await.unwrap().0, 1), ["public", "system"]);
        let asked = CommandGetTables {
            table_name_filter_pattern: Some("Weath%".into()),
            table_types: vec!["TABLE".into()],
            include_schema: true,
            ..CommandGetTables::default()
        };
        let info = client.get_tables(asked).await.unwrap();
        let (tables, _) = fetch(&mut client, info).await.unwrap();
        assert_eq!((texts(&tables, 1), texts(&tables, 2)), (vec!["public"], vec!["Weather"]));
        let columns = arrow_flight::IpcMessage(tables.column(4).as_binary::<i32>().value(0).to_vec().into());
        let columns = arrow_schema::Schema::try_from(columns).unwrap();
        let temp = columns.field_with_name("Temp").unwrap();
        let told = |key: &str| temp.metadata()[&format!("ARROW:FLIGHT:SQL:{key}")].as_str();
        assert_eq!((told("TYPE_NAME"), told("REMARKS"), told("TABLE_NAME")), ("DOUBLE", "Cel", "Weather"));
        let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
        assert_eq!(fetch(&mut client, info).await.unwrap().0.num_rows(), 1);
    });
}

#[test]
fn answers_end_when_they_are_cancelled_dropped_or_the_server_stops() {
    let log = station();
    let mut served = Served::new(&log);
    log.run(async {
        let mut client = served.client().await;
        // More of them than may be begun at once: those that were dropped make room.
        for _ in 0..20 {
            let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
            let mut answer = client.do_get(ticket(&info)).await.unwrap();
            assert!(answer.next().await.unwrap().unwrap().num_rows() > 0);
        }
        let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
        let mut answer = client.do_get(ticket(&info)).await.unwrap();
        answer.next().await.unwrap().unwrap();
        let cancel =
            || Action::new("CancelFlightInfo", CancelFlightInfoRequest::new(info.clone()).encode_to_vec());
        client.do_action(tonic::Request::new(cancel())).await.unwrap().message().await.unwrap().unwrap();
        let ended = answer.try_for_each(|_| async { Ok(()) }).await;
        assert_eq!(status(ended), (Code::Cancelled, "the statement was cancelled".to_owned()));
        let again = client.do_action(tonic::Request::new(cancel())).await;
        assert_eq!(status(again).0, Code::NotFound);

        let info = client.execute(ENDLESS.to_owned(), None).await.unwrap();
        let mut answer = client.do_get(ticket(&info)).await.unwrap();
        answer.next().await.unwrap().unwrap();
        served.stop();
        let ended = answer.try_for_each(|_| async { Ok(()) }).await;
        assert_eq!(status(ended), (Code::Unavailable, "the server stops".to_owned()));
    });
}
