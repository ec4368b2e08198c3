//! The calls of Flight, as Flight SQL means them.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, Command,
    DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, Criteria, Empty,
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    IpcMessage, PollInfo, PutResult, Result as ActionResult, SchemaAsIpc, SchemaResult, Ticket,
};
use arrow_ipc::writer::IpcWriteOptions;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use icecore_log::OnDamage;
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::answers::Answers;
use super::metadata::Metadata;
use super::rows;
use super::session::{self, Call, Wants};
use super::statement::{Statement, uncompressed};
use super::status::{self, READ_ONLY, invalid, undecodable, unwritable, unwritten};
use crate::{Database, Prepared};

/// The actions that there are, and what they do.
const ACTIONS: [(&str, &str); 7] = [
    ("CreatePreparedStatement", "Understands a statement, and makes a handle for it."),
    ("ClosePreparedStatement", "Forgets a handle."),
    ("CancelFlightInfo", "Ends the answer of a statement."),
    ("CancelQuery", "Ends the answer of a statement, for clients that do not know CancelFlightInfo."),
    ("SetSessionOptions", "Says what is wanted of all statements of a session."),
    ("GetSessionOptions", "Tells what is wanted, and what the last answer of the session covers."),
    ("CloseSession", "Forgets a session."),
];

/// A stream of answers.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Flight SQL over a database.
pub(super) struct Service {
    database: Arc<Database>,
    /// The same, for those who want damage read around.
    skipping: Arc<Database>,
    metadata: Metadata,
    answers: Answers,
}

impl Service {
    /// The calls over `database`, until `stop` says so.
    ///
    /// # Errors
    /// When what is told of the server cannot be put together.
    pub(super) fn new(database: Database, stop: watch::Receiver<bool>) -> Result<Self, Status> {
        let metadata = Metadata::new(&database)?;
        let skipping = Arc::new(database.reading(OnDamage::Skip));
        Ok(Self { database: Arc::new(database), skipping, metadata, answers: Answers::new(stop) })
    }

    fn database(&self, wants: Wants) -> &Arc<Database> {
        if wants.skip_damaged { &self.skipping } else { &self.database }
    }

    /// The columns of the answer to what is asked, and the ticket for it.
    async fn describe(&self, asked: &[u8], call: &Call) -> Result<(SchemaRef, Ticket), Status> {
        let statement = match command(asked)? {
            Command::CommandStatementQuery(query) => {
                no_transaction(query.transaction_id.as_ref())?;
                Statement::new(query.query)
            }
            Command::CommandPreparedStatementQuery(query) => {
                Statement::from_handle(&query.prepared_statement_handle)?
            }
            question => {
                let ticket = Ticket::new(question.clone().into_any().encode_to_vec());
                return Ok((self.metadata.schema(question)?, ticket));
            }
        };
        let wants = statement.wants().or(call.wants);
        let database = Arc::clone(self.database(wants));
        let plan = move || async move {
            let prepared = statement.prepare(&database).await?;
            let schema = prepared.answered_schema().map_err(|error| status::of(&error))?;
            Ok((rows::plain(&schema), statement.ticket(wants)?))
        };
        self.answers.plan(plan).await
    }

    async fn answer(&self, statement: Statement, call: Call) -> Result<Messages<FlightData>, Status> {
        let database = Arc::clone(self.database(statement.wants().or(call.wants)));
        Ok(Box::pin(self.answers.begin(statement, database, call).await?))
    }

    async fn create(
        &self,
        request: ActionCreatePreparedStatementRequest,
        call: &Call,
    ) -> Result<Vec<u8>, Status> {
        no_transaction(request.transaction_id.as_ref())?;
        let statement = Statement::new(request.query);
        let database = Arc::clone(self.database(call.wants));
        let plan = || async move {
            let prepared = database.prepare(statement.text()).await;
            let prepared = prepared.map_err(|error| status::of(&error))?;
            let result = ActionCreatePreparedStatementResult {
                prepared_statement_handle: statement.handle(),
                dataset_schema: as_ipc(&rows::plain(&prepared.schema()))?,
                parameter_schema: as_ipc(&parameters(&prepared)?)?,
            };
            Ok(result.as_any().encode_to_vec())
        };
        self.answers.plan(plan).await
    }

    /// Ends the answer that a description has the ticket of.
    fn cancel(&self, info: Option<FlightInfo>) -> Result<CancelStatus, Status> {
        let info = info.ok_or_else(|| invalid("it is not said what to cancel"))?;
        let mut is_known = false;
        for ticket in info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket) {
            if let Command::TicketStatementQuery(ticket) = command(&ticket.ticket)? {
                is_known |= self.answers.cancel(&Statement::from_handle(&ticket.statement_handle)?);
            }
        }
        match is_known {
            true => Ok(CancelStatus::Cancelled),
            false => Err(Status::not_found("no such statement is being answered")),
        }
    }
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoActionStream = Messages<ActionResult>;
    type ListActionsStream = Messages<ActionType>;
    type DoExchangeStream = Messages<FlightData>;

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        Err(Status::unimplemented("there are no users yet; connect without a user's name and password"))
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("nothing is listed as flights; ask for tables with CommandGetTables"))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let call = Call::of(request.metadata())?;
        let descriptor = request.into_inner();
        let (schema, ticket) = self.describe(&descriptor.cmd, &call).await?;
        let info = FlightInfo::new().try_with_schema(&schema).map_err(unwritten)?;
        let endpoint = FlightEndpoint::new().with_ticket(ticket);
        call.answer(info.with_endpoint(endpoint).with_descriptor(descriptor).with_ordered(true))
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("an answer is fetched while it is made; ask with GetFlightInfo"))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let call = Call::of(request.metadata())?;
        let (schema, _) = self.describe(&request.get_ref().cmd, &call).await?;
        call.answer(SchemaResult { schema: as_ipc(&schema)? })
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let call = Call::of(request.metadata())?;
        let messages = match command(&request.get_ref().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                self.answer(Statement::from_handle(&ticket.statement_handle)?, call.clone()).await?
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.answer(Statement::from_handle(&query.prepared_statement_handle)?, call.clone()).await?
            }
            question => whole(self.metadata.answer(question, &self.database).await?),
        };
        call.answer(messages)
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let call = Call::of(request.metadata())?;
        let mut messages = request.into_inner();
        let first = messages.message().await?.ok_or_else(|| invalid("nothing was put"))?;
        let descriptor =
            first.flight_descriptor.as_ref().ok_or_else(|| invalid("it is not said what is put"))?;
        let Command::CommandPreparedStatementQuery(query) = command(&descriptor.cmd)? else {
            return Err(Status::unimplemented(READ_ONLY));
        };
        let mut statement = Statement::from_handle(&query.prepared_statement_handle)?;
        statement.bind(&one_batch(first, messages).await?)?;
        let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(statement.handle()) };
        let result = PutResult { app_metadata: result.encode_to_vec().into() };
        call.answer(Box::pin(stream::iter([Ok(result)])))
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("nothing is exchanged here; ask with GetFlightInfo and DoGet"))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let call = Call::of(request.metadata())?;
        let Action { r#type: action, body } = request.into_inner();
        let answer = match action.as_str() {
            "CreatePreparedStatement" => call.answer(self.create(unpack(&body)?, &call).await?)?,
            "ClosePreparedStatement" => {
                // Handles carry the statement: there is nothing to forget.
                let _: ActionClosePreparedStatementRequest = unpack(&body)?;
                return call.answer(Box::pin(stream::empty()));
            }
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(&*body)
                    .map_err(|error| undecodable("the request", error))?;
                call.answer(CancelFlightInfoResult::new(self.cancel(request.info)?).encode_to_vec())?
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = unpack(&body)?;
                let info =
                    FlightInfo::decode(&*request.info).map_err(|error| undecodable("the request", error))?;
                let result = ActionCancelQueryResult { result: self.cancel(Some(info))? as i32 };
                call.answer(result.as_any().encode_to_vec())?
            }
            "SetSessionOptions" => session::set_options(&call, &body)?,
            "GetSessionOptions" => self.answers.sessions.options(&call)?,
            "CloseSession" => self.answers.sessions.close(&call)?,
            _ => {
                let known: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
                let known = known.join(", ");
                return Err(Status::unimplemented(format!("there is no action {action}; there are {known}")));
            }
        };
        Ok(answer
            .map(|body| -> Self::DoActionStream { Box::pin(stream::iter([Ok(ActionResult::new(body))])) }))
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let action = |(name, description): (&str, &str)| {
            Ok(ActionType { r#type: name.to_owned(), description: description.to_owned() })
        };
        Call::of(request.metadata())?.answer(Box::pin(stream::iter(ACTIONS.map(action))))
    }
}

/// What stands in a descriptor or a ticket.
fn command(bytes: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(bytes).map_err(|error| undecodable("the command", error))?;
    Command::try_from(any).map_err(|error| undecodable("the command", error))
}

/// What stands in an action.
fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any = Any::decode(body).map_err(|error| undecodable("the request", error))?;
    let request = any.unpack().map_err(|error| undecodable("the request", error))?;
    request.ok_or_else(|| invalid(format!("the request of the action is a {}", any.type_url)))
}

fn no_transaction(transaction: Option<&Bytes>) -> Result<(), Status> {
    match transaction.is_none_or(Bytes::is_empty) {
        true => Ok(()),
        false => Err(Status::unimplemented(
            "there are no transactions: every statement sees the log as it then is",
        )),
    }
}

fn as_ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &options).try_into().map_err(unwritten)?;
    Ok(bytes)
}

/// What a statement takes. Where a type does not follow from it, text is expected; other values are taken, too.
fn parameters(prepared: &Prepared) -> Result<Schema, Status> {
    let parameters = prepared.parameters().map_err(|error| status::of(&error))?;
    let field = |(name, of): (String, Option<DataType>)| {
        Field::new(name, of.map_or(DataType::Utf8, |of| rows::plain_type(&of)), true)
    };
    Ok(Schema::new(parameters.into_iter().map(field).collect::<Vec<_>>()))
}

/// An answer that is here already.
fn whole(rows: RecordBatch) -> Messages<FlightData> {
    let messages = FlightDataEncoderBuilder::new().with_schema(rows.schema());
    Box::pin(messages.build(stream::iter([Ok(rows)])).map_err(unwritable))
}

/// The one batch that a client puts.
async fn one_batch(first: FlightData, others: Streaming<FlightData>) -> Result<RecordBatch, Status> {
    let messages = stream::iter([Ok(first)]).chain(others).map(|message| {
        let message = message?;
        uncompressed(&message)?;
        Ok(message)
    });
    let read = async {
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let batch = batches.try_next().await?.ok_or_else(|| FlightError::protocol("there are no values"))?;
        match batches.try_next().await? {
            None => Ok(batch),
            Some(_) => Err(FlightError::protocol("there is more than one batch of them")),
        }
    };
    // Should the reader panic over the bytes of a client, they are not understood.
    let read = AssertUnwindSafe(read).catch_unwind().await;
    let what = "the values of the parameters";
    match read.map_err(|_| undecodable(what, "they are malformed"))? {
        Ok(batch) => Ok(batch),
        Err(FlightError::Tonic(status)) => Err(*status),
        Err(error) => Err(undecodable(what, error)),
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("database", &self.database).finish_non_exhaustive()
    }
}
